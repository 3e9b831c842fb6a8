"""A large model as the teacher of a small one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import features_of, random_interactions, rank_config, retrieve_config

from tools.config.build import BuildConfig, ConfigError
from tools.config.training import DistilConfig
from tools.data.dataset import Dataset
from tools.data.gather import Gathered
from tools.data.interactions import Interactions
from tools.progress import Steps
from tools.releases.build import fingerprint_of, manifest_of
from tools.releases.validate import held_out_models
from tools.training.features import Features
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import Retriever, full_softmax
from tools.training.teacher import Teacher, save_whole, write_teacher
from tools.training.windows import cut_windows

N_USERS, N_ITEMS, LONG = 20, 30, 16


def dataset_of(events: Interactions) -> Dataset:
    """Users and items as `features_of` describes them."""
    users = [{"age": float(row % 7), "country": "de" if row % 3 else "fr"} for row in range(events.n_users)]
    genres = ("a", "b", "c", "d")
    items = [{"genre": list(genres[: 1 + row % 3]), "year": float(row % 5)} for row in range(events.n_items)]
    names = [f"item {row}" for row in range(events.n_items)]
    return Dataset(
        interactions=events,
        user_features=users,
        item_features=items,
        user_keys=[str(each) for each in events.user_ids],
        item_keys=names,
        item_titles=names,
        user_id_kind="integer",
        item_id_kind="string",
        data_range=(0, 1),
        events_read=events.n_events,
        events_kept=events.n_events,
        notes=(),
    )


def config_of(distil: DistilConfig | None = None, **retrieve: object) -> BuildConfig:
    events = {"path": Path("none.csv"), "user": "u", "item": "i", "timestamp": "t"}
    widths = {"history": LONG, "candidates": 8, "results": 2}
    config = retrieve_config(width=16, **retrieve, distil=distil)
    content = {"name": "shop", "data": {"events": events}, "contract": widths, "rank": rank_config(epochs=1)}
    return BuildConfig.model_validate({**content, "retrieve": config})


@pytest.fixture(scope="module")
def events() -> Interactions:
    return random_interactions(N_USERS, N_ITEMS, longest=50)


@pytest.fixture(scope="module")
def large(events: Interactions) -> Retriever:
    """Looks back further, and is wider, than whoever learns from it."""
    torch.manual_seed(3)
    model = Retriever(config_of().retrieve, features_of(N_USERS, N_ITEMS), LONG)
    with torch.no_grad():
        for parameter in (model.items.identity.weight, model.bias):
            parameter.add_(torch.randn_like(parameter) * 0.5)
        model.items.identity.weight[0] = 0
    return model.eval()


@pytest.fixture
def distil(tmp_path: Path, events: Interactions, large: Retriever) -> DistilConfig:
    path = tmp_path / "large" / "model.pt"
    write_teacher(
        path, large, features_of(N_USERS, N_ITEMS), config_of(), dataset_of(events), held_out=1, settings={}
    )
    return DistilConfig(teacher=path, weight=0.5, temperature=2.0)


def test_what_it_says_of_an_event_rests_on_what_came_before_it(
    events: Interactions, large: Retriever, distil: DistilConfig
) -> None:
    teacher = Teacher.open(distil, dataset_of(events), held_out=1)
    found = teacher.queries(events, batch=3).float()
    features, checked = features_of(N_USERS, N_ITEMS), 0
    for user in range(N_USERS):
        items = torch.from_numpy(events.user(user)).long()
        for place in range(len(items)):
            # Which window the event is read in is free, if it sees half of the history before it, at least.
            ends = [
                end
                for end in range(place + 1, min(place + LONG, len(items)) + 1)
                if LONG - (end - place) + 1 >= min(place, LONG // 2)
            ]
            padded = torch.cat([torch.zeros(LONG, dtype=torch.long), items])
            histories = torch.stack([padded[end - 1 : end - 1 + LONG] for end in ends])
            codes = torch.from_numpy(features.users[[user] * len(ends)])
            with torch.no_grad():
                vectors = large.items()
                queries = large.tower(codes, histories, vectors[histories])
            read = torch.stack([row[LONG - (end - place)] for row, end in zip(queries, ends, strict=True)])
            query = found[events.offsets[user] + place]
            assert float((read - query).abs().amax(dim=1).min()) < 5e-3
            checked += 1
    assert checked == events.n_events > 300


def test_it_knows_items_by_their_ids_and_says_nothing_of_those_it_has_never_met(
    events: Interactions, large: Retriever, distil: DistilConfig
) -> None:
    """The catalogue has been ordered anew since, one item has gone and two have come."""
    order = np.concatenate([np.random.default_rng(0).permutation(N_ITEMS)[1:], [900, 901]])
    now = replace(
        random_interactions(4, N_ITEMS + 1), item_ids=np.concatenate([[-1], order]).astype(np.int64)
    )
    teacher = Teacher.open(distil, dataset_of(now), held_out=1)
    assert teacher.unknown.nonzero().flatten().tolist() == [0, N_ITEMS, N_ITEMS + 1]
    rows = torch.from_numpy(order[:-2] + 1)  # in its own catalogue item id i has row i + 1
    assert torch.equal(teacher.model.items.identity.weight[1:N_ITEMS], large.items.identity.weight[rows])
    assert torch.equal(teacher.model.bias[1:N_ITEMS], large.bias[rows])


def test_one_that_knows_what_is_measured_on_is_refused(events: Interactions, distil: DistilConfig) -> None:
    with pytest.raises(ConfigError, match="must not know the newest 2, which are measured on"):
        Teacher.open(distil, dataset_of(events), held_out=2)
    with pytest.raises(ConfigError, match="must not know the newest 2"):
        held_out_models(config_of(distil), dataset_of(events), Steps(3))


@pytest.mark.parametrize("content", [None, b"", b"PK no model", {"format": 9}, {"weights": 1}])
def test_a_file_that_is_none_is_named(tmp_path: Path, events: Interactions, content: object) -> None:
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        save_whole(path, content)
    with pytest.raises(
        ConfigError, match=r"retrieve.distil.teacher: found '.*model.pt': .*; allowed: a model"
    ):
        Teacher.open(DistilConfig(teacher=path, weight=0.5, temperature=1.0), dataset_of(events), held_out=1)


def test_writing_fails_or_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_whole(path, {"a": 1})
    (tmp_path / ".model.pt.123").write_text("left over from a process that was killed")
    with pytest.raises(Exception, match="pickle"):
        save_whole(path, {"a": lambda: 0})
    assert torch.load(path, weights_only=True) == {"a": 1}
    save_whole(path, {"a": 2})
    assert torch.load(path, weights_only=True) == {"a": 2}
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_who_is_taught_comes_to_say_what_the_teacher_says(
    events: Interactions, distil: DistilConfig, loss: str
) -> None:
    """The teacher's word is arbitrary, so there is no other way to come to it than to be taught."""
    config = retrieve_config(width=16, epochs=12, learning_rate=0.03, loss=loss, negatives=64)
    features = features_of(N_USERS, N_ITEMS)
    distil = distil.model_copy(update={"weight": 1.0, "temperature": 1.0})
    teacher = Teacher.open(distil, dataset_of(events), held_out=1)
    taught, _ = train_retriever(events, features, config, history=LONG, seed=1, teacher=teacher)
    alone, _ = train_retriever(events, features, config, history=LONG, seed=1)
    windows = cut_windows(events, LONG)
    places = np.maximum(windows.stops[:, None] - LONG + np.arange(LONG), 0)
    lesson = teacher.lesson(teacher.queries(events)[torch.from_numpy(places)])
    inputs = [torch.from_numpy(each) for each in (features.users[windows.users], windows.histories)]
    targets = torch.from_numpy(windows.targets)
    with torch.no_grad():
        far, before = (
            float(full_softmax(model, *inputs, targets, np.random.default_rng(0), lesson))
            for model in (taught, alone)
        )
    assert far < 0.5 * before


def test_a_release_says_who_taught_it(events: Interactions, distil: DistilConfig) -> None:
    gathered = Gathered.from_files(dataset_of(events))
    config = config_of(distil)
    first = fingerprint_of(config)
    said = manifest_of("r", config, gathered, first)["teacher"]
    assert said["path"] == str(distil.teacher)
    assert len(said["hash"]) == 64
    assert manifest_of("r", config_of(), gathered, first)["teacher"] is None
    with distil.teacher.open("ab") as file:
        file.write(b"\0")
    assert fingerprint_of(config) != first
    assert manifest_of("r", config, gathered, first)["teacher"]["hash"] != said["hash"]


def test_features_are_read_in_the_codes_that_it_learned(events: Interactions, distil: DistilConfig) -> None:
    """The small model may have other features, or none."""
    teacher = Teacher.open(distil, dataset_of(events), held_out=1)
    expected: Features = features_of(N_USERS, N_ITEMS)
    np.testing.assert_array_equal(teacher.features.users, expected.users)
    np.testing.assert_array_equal(teacher.features.items, expected.items)
