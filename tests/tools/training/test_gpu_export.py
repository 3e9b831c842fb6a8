"""Programs for gpu_torch, and the stage that runs them: the local profile's answers, on any device."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import features_of, rank_config, retrieve_config
from tritonrec_client.contract import MODELS, RETRIEVE_AND_RANK, Sizes

from python_backend.gpu.device import DeviceUnavailable, open_device
from python_backend.gpu.search import Found, GpuSearch
from python_backend.gpu.stage import RetrieveAndRank
from python_backend.item_index import ItemIndex
from python_backend.pipeline import load_stage
from python_backend.release import Release
from python_backend.stages.retrieve import INDEX
from tools.config.build import BuildConfig, ContractConfig
from tools.releases.profiles import write_profiles
from tools.training.evidence import Neighbours
from tools.training.export import GraphMismatch, RankGraph, RetrieveGraph, made_up_inputs
from tools.training.gpu_export import check_stage, export_gpu_torch
from tools.training.ranker import Ranker
from tools.training.retriever import Retriever

N_ITEMS = 200
SIZES = Sizes(candidates=12, results=5, history=6, seen=40, session=2, user_features=2)
FEATURES = features_of(9, N_ITEMS)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: torch.cuda.is_available() is False")
    return str(request.param)


@dataclass(frozen=True)
class Built:
    """A release with what gpu_torch serves from, and the models that it was made of."""

    release: Release
    retriever: Retriever
    ranker: Ranker


def moved_from_its_start(model: torch.nn.Module) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for embedding in model.modules():
            if isinstance(embedding, torch.nn.Embedding):
                embedding.weight[0] = 0
    return model.eval()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    items = np.stack([random.permutation(N_ITEMS)[:20] + 1 for _ in range(N_ITEMS + 1)]).astype(np.int32)
    weights = random.normal(size=items.shape).astype(np.float32)
    weights[0] = 0
    retriever = moved_from_its_start(Retriever(retrieve_config(), FEATURES, SIZES.history))
    ranker = Ranker(rank_config(), FEATURES, SIZES.history, Neighbours(items, weights))
    ranker = moved_from_its_start(ranker)
    folder = tmp_path_factory.mktemp("release")
    export_gpu_torch(retriever, ranker, FEATURES, SIZES, folder)
    return Built(Release("0" * 12, SIZES, folder), retriever, ranker)


@pytest.fixture(scope="module")
def stage(built: Built, device: str) -> RetrieveAndRank:
    return RetrieveAndRank.load(built.release, {"device": device})


def requests(rows: int, seed: int = 0) -> dict[str, Any]:
    made_up = made_up_inputs("retrieve", FEATURES, SIZES, rows + 1000 * seed)
    return {tensor.name: made_up[tensor.name][:rows] for tensor in MODELS[RETRIEVE_AND_RANK.name].inputs}


@torch.no_grad()
def test_the_stage_answers_as_the_graphs_of_the_local_profile_do(
    built: Built, stage: RetrieveAndRank
) -> None:
    retrieve, rank = RetrieveGraph(built.retriever, SIZES).eval(), RankGraph(built.ranker).eval()
    for rows in (1, 3, 65):
        inputs = requests(rows)
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}

        found = stage(inputs)

        items, scores = retrieve(**tensors)
        assert found["candidate"].tolist() == items.tolist()
        assert np.allclose(found["retrieval_score"], scores, rtol=1e-3, atol=1e-3)
        wanted = rank(tensors["user_features"], tensors["history"], items, scores).numpy()
        assert np.median(np.abs(found["rank_score"] - wanted) / np.abs(wanted)) < 1e-3
        assert np.allclose(found["rank_score"], wanted, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("scan", ["fp16", "int8"])
def test_a_release_with_an_index_of_its_own_is_searched_by_that(
    built: Built, stage: RetrieveAndRank, device: str, scan: str, tmp_path: Path
) -> None:
    shutil.copytree(built.release.path, tmp_path / "release")
    artifacts = tmp_path / "release" / "artifacts"
    (artifacts / "gpu_torch" / "index").rename(artifacts / INDEX)
    release = Release("0" * 12, SIZES, tmp_path / "release")

    other = load_stage(RETRIEVE_AND_RANK.name, release, {"device": device, "scan": scan})

    assert other(requests(3))["candidate"].tolist() == stage(requests(3))["candidate"].tolist()


def test_a_catalogue_that_is_scanned_is_answered_like_one_that_is_scored_whole(
    built: Built, stage: RetrieveAndRank, device: str
) -> None:
    index = ItemIndex.open(built.release.artifacts / "gpu_torch" / "index")
    search = GpuSearch(index, candidates=SIZES.candidates, device=torch.device(device), small=0)
    scanning = RetrieveAndRank(stage._query, search, stage._rank, SIZES, torch.device(device), (1, 8))
    for rows in (1, 7):
        answers, whole = scanning(requests(rows)), stage(requests(rows))
        assert answers["candidate"].tolist() == whole["candidate"].tolist()
        assert np.allclose(answers["rank_score"], whole["rank_score"], rtol=1e-3, atol=1e-3)


def test_answers_have_the_contracts_names_types_and_widths_and_lie_where_the_request_lay(
    stage: RetrieveAndRank, device: str
) -> None:
    inputs = requests(3)
    answers = stage(inputs)
    assert {name: (array.dtype, array.shape) for name, array in answers.items()} == {
        "candidate": (np.int32, (3, 12)),
        "retrieval_score": (np.float32, (3, 12)),
        "rank_score": (np.float32, (3, 12)),
    }
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    for place in {"cpu", device}:
        moved = stage({name: tensor.to(place) for name, tensor in tensors.items()})
        for name, tensor in moved.items():
            assert tensor.device.type == place
            assert tensor.cpu().numpy().tolist() == answers[name].tolist()


def test_a_rows_answer_depends_neither_on_other_rows_nor_on_what_was_asked_before(
    stage: RetrieveAndRank,
) -> None:
    inputs = requests(130)
    together = stage(inputs)
    for begin, end in ((0, 1), (64, 67), (100, 130)):
        alone = stage({name: array[begin:end] for name, array in inputs.items()})
        assert alone["candidate"].tolist() == together["candidate"][begin:end].tolist()
        for name in ("retrieval_score", "rank_score"):
            assert np.allclose(alone[name], together[name][begin:end], rtol=1e-3, atol=1e-3)


def test_an_answer_is_not_overwritten_by_the_next_one(stage: RetrieveAndRank, device: str) -> None:
    inputs = {name: torch.from_numpy(array).to(device) for name, array in requests(2).items()}
    first = stage.run(inputs)
    kept = {name: tensor.cpu().clone() for name, tensor in first.items()}

    stage.run({**inputs, "history": inputs["history"].flip(0)})

    for name, tensor in first.items():
        assert tensor.cpu().tolist() == kept[name].tolist()


@pytest.mark.parametrize("value", [-5, 2**31 - 1])
@pytest.mark.parametrize("name", ["user_features", "history", "seen"])
def test_a_request_that_names_what_is_not_there_harms_nobody(
    stage: RetrieveAndRank, name: str, value: int
) -> None:
    inputs = requests(2)
    right = stage(inputs)
    wrong = {**inputs, name: inputs[name].copy()}
    wrong[name][0] = value

    answers = stage(wrong)

    assert answers["candidate"][1].tolist() == right["candidate"][1].tolist()
    assert stage(inputs)["candidate"].tolist() == right["candidate"].tolist()


def test_rows_of_which_the_search_is_not_certain_are_searched_exactly(
    stage: RetrieveAndRank, device: str
) -> None:
    inputs = requests(3)
    right = stage(inputs)

    class Uncertain:
        """Finds nothing and knows it, in the second row."""

        def __init__(self, search: Any) -> None:
            self.vectors, self.exactly, self._search = search.vectors, search.exactly, search
            self.last_item = search.last_item

        def __call__(self, queries: torch.Tensor, seen: torch.Tensor) -> Found:
            found = self._search(queries, seen)
            second = torch.arange(len(queries), device=queries.device) == 1
            return Found(found.items.where(~second[:, None], 0), found.scores, ~second)

    unsure = RetrieveAndRank(
        stage._query, Uncertain(stage._search), stage._rank, SIZES, torch.device(device), (1, 4)
    )

    answers = unsure(inputs)

    assert answers["candidate"].tolist() == right["candidate"].tolist()
    for name in ("retrieval_score", "rank_score"):
        assert np.allclose(answers[name], right[name], rtol=1e-3, atol=1e-3)


def test_programs_of_another_model_are_refused(built: Built, stage: RetrieveAndRank) -> None:
    other = moved_from_its_start(Ranker(rank_config(), FEATURES, SIZES.history))
    with pytest.raises(GraphMismatch, match="retrieve_and_rank: rank_score differs by up to"):
        check_stage(stage, built.retriever, other, FEATURES, SIZES, rows=2, tolerance=5e-3)


def test_a_build_writes_the_profile_the_same_model_the_same_bytes_and_no_second_index(
    built: Built, tmp_path: Path
) -> None:
    shutil.copytree(built.release.artifacts / "gpu_torch" / "index", tmp_path / "artifacts" / INDEX)

    config = BuildConfig.model_construct(
        profiles=("gpu_torch",), contract=ContractConfig.model_validate(SIZES.to_dict())
    )
    write_profiles(tmp_path, config, features=FEATURES, retriever=built.retriever, ranker=built.ranker)

    written = tmp_path / "artifacts" / "gpu_torch"
    assert sorted(path.name for path in written.iterdir()) == ["query.pt2", "rank.pt2"]
    for path in written.iterdir():
        assert path.read_bytes() == (built.release.artifacts / "gpu_torch" / path.name).read_bytes()


def test_a_release_without_the_profile_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"query\.pt2: .* build with --profile gpu_torch"):
        RetrieveAndRank.load(Release("0" * 12, SIZES, tmp_path), {"device": "cpu"})


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"device is .*; allowed are cuda, "):
        open_device(name)


def test_a_missing_gpu_is_one_line_that_says_what_to_do() -> None:
    if torch.cuda.is_available():
        name, said = f"cuda:{torch.cuda.device_count()}", "but this machine has"
    else:
        name, said = "cuda", "install a CUDA build of torch .* or set the parameter device to cpu"
    with pytest.raises(DeviceUnavailable, match=said) as refused:
        open_device(name)
    assert "\n" not in str(refused.value)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_pytorch_only_this_stage_cannot_be_loaded_and_says_what_to_install() -> None:
    absent = "import sys; sys.modules['torch'] = None; "
    assert run_python(absent + "import python_backend.pipeline").returncode == 0
    result = run_python(absent + "import python_backend.gpu.stage")
    assert (
        result.stderr.strip()
        .splitlines()[-1]
        .endswith("the profile gpu_torch needs PyTorch, which is not installed: pip install 'torch>=2.11'")
    )


def test_the_other_stages_do_not_import_pytorch() -> None:
    code = "import sys, python_backend.pipeline, python_backend.batch; print('torch' in sys.modules)"
    assert run_python(code).stdout == "False\n"
