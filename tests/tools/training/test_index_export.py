from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_export import FEATURES, N_ITEMS, SIZES, moved_from_its_start
from toy import features_of, random_interactions, retrieve_config

from python_backend.item_index import INDEX, ItemIndex
from python_backend.release import Release
from python_backend.stages.retrieve import QUERY_GRAPH, Retrieve
from tools.training.export import GraphMismatch, RetrieveGraph, check_answers, made_up_inputs
from tools.training.index_export import NORMALISER, export_retrieve
from tools.training.item_search import index_of, search_of
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import Retriever


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    torch.manual_seed(0)
    model = moved_from_its_start(Retriever(retrieve_config(dropout=0.2), FEATURES, SIZES.history))
    assert isinstance(model, Retriever)
    return model


@pytest.fixture(scope="module")
def folder(retriever: Retriever, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release's folder; exporting takes seconds, so it is done once."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "artifacts").mkdir()
    export_retrieve(retriever, FEATURES, SIZES, folder / "artifacts", index_from=N_ITEMS)
    return folder


@pytest.fixture(scope="module")
def trained() -> Retriever:
    """Trained for a moment on users who walk among 300 items."""
    interactions = random_interactions(60, 300)
    config = retrieve_config(epochs=2)
    return train_retriever(interactions, features_of(60, 300), config, history=SIZES.history, seed=0)[0]


@pytest.fixture
def stage(folder: Path) -> Retrieve:
    return Retrieve.load(Release("", SIZES, folder), {})


def test_a_large_catalogue_has_an_index_and_a_graph_without_its_items(folder: Path) -> None:
    files = sorted(path.name for path in (folder / "artifacts").iterdir())
    assert files == [INDEX, QUERY_GRAPH]


def test_a_small_one_is_one_graph(retriever: Retriever, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    export_retrieve(retriever, FEATURES, SIZES, tmp_path / "artifacts", index_from=N_ITEMS + 1)
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["retrieve.onnx"]
    Retrieve.load(Release("", SIZES, tmp_path), {})


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_index_answers_as_the_one_graph_does(retriever: Retriever, stage: Retrieve, rows: int) -> None:
    inputs = made_up_inputs("retrieve", FEATURES, SIZES, rows)
    with torch.no_grad():
        whole = RetrieveGraph(retriever, SIZES).eval()
        candidate, score = whole(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    answer = stage(inputs)
    assert np.array_equal(answer["candidate"], candidate.numpy())
    assert np.allclose(answer["retrieval_score"], score.numpy(), atol=NORMALISER)
    assert answer["candidate"].dtype == np.int32
    assert answer["retrieval_score"].dtype == np.float32


def test_the_list_of_a_trained_retriever_is_that_of_the_float_search(trained: Retriever) -> None:
    index, random = index_of(trained), np.random.default_rng(0)
    queries = 3 * index.vectors[random.integers(1, 301, 200)] + random.normal(size=(200, 8))
    queries = queries.astype(np.float32)
    seen = random.integers(0, 301, (200, 20)).astype(np.int32)
    found, _ = search_of(trained, 40)(queries, seen)
    scores = queries @ index.vectors.T + index.bias[:301]
    np.put_along_axis(scores, seen.astype(np.int64), -np.inf, axis=1)
    wanted = np.argsort(-scores, axis=1)[:, :40]
    shares = [np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)]
    assert np.mean(shares) >= 0.999


def test_a_batch_is_its_requests_one_by_one(stage: Retrieve) -> None:
    inputs = made_up_inputs("retrieve", FEATURES, SIZES, 8)
    together = stage(inputs)
    for row in range(8):
        alone = stage({name: array[row : row + 1] for name, array in inputs.items()})
        assert np.array_equal(alone["candidate"][0], together["candidate"][row])
        assert np.allclose(alone["retrieval_score"][0], together["retrieval_score"][row], atol=1e-5)


def test_a_request_of_zeros_as_triton_warms_up_with_is_answered(stage: Retrieve) -> None:
    inputs = made_up_inputs("retrieve", FEATURES, SIZES, 2)
    answer = stage({name: np.zeros_like(array) for name, array in inputs.items()})
    assert all(np.isfinite(array).all() for array in answer.values())


@pytest.mark.parametrize("change", ["longer vectors", "another bias", "other items' vectors"])
def test_an_index_of_other_items_is_refused(
    retriever: Retriever, folder: Path, tmp_path: Path, change: str
) -> None:
    index = ItemIndex.open(folder / "artifacts" / INDEX)
    vectors, bias = index.vectors, index.bias[: len(index.vectors)]
    if change == "longer vectors":
        vectors = vectors * np.float32(1.02)
    elif change == "another bias":
        bias = bias + np.arange(len(bias), dtype=np.float32) % 3
    else:
        vectors = np.roll(vectors, 1, axis=0)
    ItemIndex.of(vectors, bias).write(tmp_path / "artifacts" / INDEX)
    (tmp_path / "artifacts" / QUERY_GRAPH).symlink_to(folder / "artifacts" / QUERY_GRAPH)
    other = Retrieve.load(Release("", SIZES, tmp_path), {})
    whole, inputs = RetrieveGraph(retriever, SIZES).eval(), made_up_inputs("retrieve", FEATURES, SIZES, 5)
    with pytest.raises(GraphMismatch, match="retrieval_score: differs by up to"):
        check_answers(whole, other(inputs), inputs, normaliser=NORMALISER)


def test_scores_that_are_further_off_than_the_normaliser_may_be_are_refused(
    retriever: Retriever, stage: Retrieve
) -> None:
    whole, inputs = RetrieveGraph(retriever, SIZES).eval(), made_up_inputs("retrieve", FEATURES, SIZES, 5)
    answer = stage(inputs)
    nearly = {**answer, "retrieval_score": answer["retrieval_score"] + np.float32(0.9 * NORMALISER)}
    check_answers(whole, nearly, inputs, normaliser=NORMALISER)
    beyond = {**answer, "retrieval_score": answer["retrieval_score"] + np.float32(1.2 * NORMALISER)}
    with pytest.raises(GraphMismatch, match="retrieval_score: differs by up to"):
        check_answers(whole, beyond, inputs, normaliser=NORMALISER)


def test_the_same_retriever_gives_the_same_bytes(retriever: Retriever, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    export_retrieve(retriever, FEATURES, SIZES, tmp_path / "artifacts", index_from=1)
    for path in (folder / "artifacts").rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path
