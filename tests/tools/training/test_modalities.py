"""Vectors that the data bring: how they become item vectors, and what new items gain by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import HISTORY, features_of, interactions_of, rank_config, retrieve_config
from tritonrec_client.contract import Sizes

from python_backend.release import Release
from tools.compression.distillation import new_student
from tools.config.build import BuildConfig, ConfigError
from tools.config.compression import StudentConfig
from tools.config.training import DistilConfig
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions
from tools.training.candidates import RankingExamples
from tools.training.checkpoint import Checkpoint, write_checkpoint
from tools.training.cold_start import warm_up_items
from tools.training.features import Features
from tools.training.item_encoder import ItemEncoder, Modality
from tools.training.rank_training import rank_logits, target_places, train_ranker
from tools.training.ranker import Ranker
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, Retriever, target_ranks
from tools.training.teacher import Teacher, write_teacher
from tools.training.windows import last_histories

TASTES, ITEMS, USERS, WIDTH = 6, 120, 90, 12
NEW = np.arange(1, ITEMS + 1, 6)
"""Items that nobody has met."""
TASTE_OF_ITEM = np.random.default_rng(5).integers(0, TASTES, ITEMS + 1)
TASTE_OF_USER = np.arange(USERS) % TASTES


def images(*, without: np.ndarray | None = None) -> np.ndarray:
    """What an encoder of images might say: the taste, noise, and a mean that all have in common."""
    random = np.random.default_rng(1)
    kinds = random.normal(size=(TASTES, WIDTH)) + 3
    found = kinds[TASTE_OF_ITEM] + 0.3 * random.normal(size=(ITEMS + 1, WIDTH))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found[0] = 0
    if without is not None:
        found[without] = 0
    return found.astype(np.float32)


def shop() -> Interactions:
    """Everybody takes items of one taste, in any order; nobody takes a new one."""
    random = np.random.default_rng(2)
    known = np.setdiff1d(np.arange(1, ITEMS + 1), NEW)
    users = []
    for taste in TASTE_OF_USER:
        liked = known[TASTE_OF_ITEM[known] == taste]
        users.append(random.permutation(liked)[: random.integers(6, 10)].tolist())
    return interactions_of(*users, n_items=ITEMS)


EVENTS = shop()
PLAIN = features_of(USERS, ITEMS, described=False)
SEEN = replace(PLAIN, vectors={"image": images()})


def wanted_new() -> np.ndarray:
    """A new item of each user's taste, drawn at random."""
    random = np.random.default_rng(3)
    return np.array(
        [random.choice(NEW[TASTE_OF_ITEM[NEW] == taste]) for taste in TASTE_OF_USER], dtype=np.int32
    )


def recall_of_new_items(features: Features) -> float:
    """How often a new item of a user's taste is among the 20 of 120 that the retriever puts first."""
    config = retrieve_config(width=16, epochs=12, batch=16, learning_rate=0.02)
    model, _ = train_retriever(EVENTS, features, config, history=HISTORY, seed=0)
    warm_up_items(model, EVENTS.popularity() == 0, EVENTS.popularity())
    return float((target_ranks(model, HeldOut(EVENTS, wanted_new()), features, HISTORY) < 20).mean())


def test_images_tell_who_likes_an_item_that_nobody_has_met() -> None:
    without, with_images = recall_of_new_items(PLAIN), recall_of_new_items(SEEN)
    assert without < 0.4  # chance is 20 of 120
    assert with_images > 0.8


def test_half_of_the_images_are_better_than_none() -> None:
    """Items without an image are found as before; those with one are found by it."""
    half = replace(PLAIN, vectors={"image": images(without=np.arange(2, ITEMS + 1, 4))})
    assert recall_of_new_items(half) > recall_of_new_items(PLAIN) + 0.15


def test_the_ranker_learns_from_images_too() -> None:
    """New items are never the answer in training, but what is asked for in the end."""
    random = np.random.default_rng(0)
    histories = last_histories(EVENTS, HISTORY)
    known = np.setdiff1d(np.arange(1, ITEMS + 1), NEW)

    def examples(items: np.ndarray, rounds: int) -> RankingExamples:
        """An item of the user's taste among nine of others, about which retrieval says nothing."""
        users = np.tile(np.arange(USERS), rounds)
        candidates, targets = [], []
        for taste in TASTE_OF_USER[users]:
            own = TASTE_OF_ITEM[items] == taste
            place = random.integers(0, 10)
            others = random.permutation(items[~own])[:9]
            candidates.append(np.insert(others, place, random.choice(items[own])))
            targets.append(place)
        scores = np.full((len(users), 10), -2.3, np.float32)
        return RankingExamples(
            users, histories[users], np.array(candidates, np.int32), scores, np.array(targets)
        )

    config = rank_config(epochs=10, batch=32, learning_rate=0.02, negatives=9, shrinkage=1.0)
    found = {}
    for name, features in (("without", PLAIN), ("with", SEEN)):
        ranker, _ = train_ranker(examples(known, 6), features, config, history=HISTORY, seed=0)
        warm_up_items(ranker, EVENTS.popularity() == 0, EVENTS.popularity())
        asked = examples(NEW, 2)
        logits = rank_logits(ranker, asked, features)
        # New items without images are all alike: which of them comes first is a matter of chance.
        logits += 1e-3 * random.random(logits.shape, dtype=np.float32)
        found[name] = (target_places(logits, asked) == 0).mean()
    assert found["without"] < 0.25
    assert found["with"] > 0.7


# How they become item vectors.


def encoder_of(features: Features, **changes: float) -> ItemEncoder:
    torch.manual_seed(0)
    return ItemEncoder.of(features, 8, **changes)


def test_without_any_the_encoder_is_what_it_was() -> None:
    plain, seen = encoder_of(PLAIN), encoder_of(SEEN)
    assert set(plain.state_dict()) == {"identity.weight", "features.embedding.weight"}
    assert torch.equal(plain.identity.weight, seen.identity.weight)


def test_items_without_a_vector_share_a_learned_one_and_padding_has_none() -> None:
    features = replace(PLAIN, vectors={"image": images(without=np.array([4, 9]))})
    encoder = encoder_of(features)
    modality = encoder.modalities["image_vectors"]
    assert isinstance(modality, Modality)
    with torch.no_grad():
        modality.missing.normal_()
    found = modality(torch.arange(ITEMS + 1))
    assert torch.equal(found[4], modality.missing)
    assert torch.equal(found[9], modality.missing)
    assert not torch.isclose(found[5], modality.missing).any()
    assert torch.equal(found[0], torch.zeros(8))
    assert torch.equal(encoder()[0], torch.zeros(8))


def test_the_part_of_a_step_is_the_same_as_the_whole_catalogue() -> None:
    encoder = encoder_of(replace(SEEN, vectors={"image": images(), "sound": images()[:, :3]}))
    vectors, (rows,) = encoder.table(torch.tensor([[7, 0], [3, 7]]))
    assert len(vectors) < ITEMS
    torch.testing.assert_close(vectors[rows], encoder()[torch.tensor([[7, 0], [3, 7]])])


def test_the_length_of_what_encoders_have_in_common_does_not_matter() -> None:
    """Vectors that are nearly the same are told apart as those that are not."""
    near = images() * 0.01 + np.eye(1, WIDTH, dtype=np.float32) * (np.arange(ITEMS + 1) > 0)[:, None]
    far, close = encoder_of(SEEN), encoder_of(replace(SEEN, vectors={"image": near}))
    torch.testing.assert_close(
        far.described(torch.arange(ITEMS + 1)), close.described(torch.arange(ITEMS + 1))
    )


def test_a_single_vector_is_no_scale_for_others() -> None:
    """Whoever comes later with another one gets a vector of the usual size."""
    alone = images(without=np.arange(2, ITEMS + 1))
    modality = encoder_of(replace(SEEN, vectors={"image": alone})).modalities["image_vectors"]
    assert isinstance(modality, Modality)
    modality.vectors, modality.known = torch.from_numpy(images()), torch.from_numpy(images().any(axis=1))
    assert modality(torch.arange(ITEMS + 1)).abs().max() < 1


def test_dropout_hides_vectors_in_training_alone() -> None:
    encoder = encoder_of(SEEN, modality_dropout=0.5)
    items = torch.arange(1, ITEMS + 1)
    told = encoder.eval().described(items).any(dim=1)
    assert told.all()
    hidden = ~encoder.train().described(items).any(dim=1)
    assert 0.3 < float(hidden.float().mean()) < 0.7


def test_names_that_modules_have_themselves_are_names_too() -> None:
    names = ("type", "keys", "forward", "training")
    encoder = encoder_of(replace(SEEN, vectors=dict.fromkeys(names, images())))
    assert len(encoder.modalities) == 4


# On their way through a release.

SIZES = Sizes(candidates=20, results=5, history=HISTORY, seen=40, session=2, user_features=2)


@pytest.fixture(scope="module")
def models() -> tuple[Retriever, Ranker]:
    torch.manual_seed(0)
    found = Retriever(retrieve_config(), SEEN, HISTORY), Ranker(rank_config(), SEEN, HISTORY)
    for model in found:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
            model.items.identity.weight[0] = 0
            model.items.features.embedding.weight[0] = 0
        model.eval()
    return found


def test_a_student_begins_with_its_teachers_vectors_alone(models: tuple[Retriever, Ranker]) -> None:
    form = StudentConfig.model_validate({"width": 8, "heads": 2, "crosses": 1, "hidden": 8})
    student = new_student(models[1], form, rank_config(), SEEN, HISTORY, seed=0)
    of_student, of_teacher = student.items(), models[1].items()
    torch.testing.assert_close(of_student @ of_student.T, of_teacher @ of_teacher.T, atol=1e-4, rtol=1e-4)


@pytest.fixture
def checkpoint(models: tuple[Retriever, Ranker], tmp_path: Path) -> Checkpoint:
    write_checkpoint(tmp_path, *models)
    (tmp_path / "artifacts").mkdir()
    np.savez(tmp_path / "artifacts" / "items.npz", wire_id=EVENTS.item_ids)
    return Checkpoint.of(Release("0" * 12, SIZES, tmp_path))


def test_a_refresh_goes_on_with_what_the_projection_was_trained_for(
    checkpoint: Checkpoint, models: tuple[Retriever, Ranker]
) -> None:
    """An item has come whose vector is far from all others: the vectors' mean is another one now."""
    grown = np.vstack([images(), -images()[1]])
    features = replace(SEEN, items=np.zeros((ITEMS + 2, 1), np.int32), vectors={"image": grown})
    item_ids = np.append(EVENTS.item_ids, 10**6)
    now = Retriever(retrieve_config(), features, HISTORY)
    checkpoint.load_retriever(now, item_ids)
    warm_up_items(now, checkpoint.rows_of(item_ids) == 0, np.append(EVENTS.popularity(), 0))
    torch.testing.assert_close(now.items()[: ITEMS + 1], models[0].items())
    assert not torch.allclose(now.items()[-1], now.items.identity.weight[-1])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({}, "image_vectors"),
        ({"image": images()[:, :5]}, r"image_vectors\.centre is \[12\], now \[5\]"),
        ({"image": images(), "sound": images()}, "sound_vectors"),
    ],
)
def test_a_refresh_with_other_vectors_is_refused(
    checkpoint: Checkpoint, vectors: dict[str, np.ndarray], message: str
) -> None:
    model = Retriever(retrieve_config(), replace(PLAIN, vectors=vectors), HISTORY)
    with pytest.raises(ConfigError, match=rf"{message}.*build without --refresh"):
        checkpoint.load_retriever(model, EVENTS.item_ids)


def dataset_of(features: Features) -> Dataset:
    keys = [str(each) for each in EVENTS.item_ids[1:]]
    return Dataset(
        interactions=EVENTS,
        user_features=[{} for _ in range(USERS)],
        item_features=[{} for _ in range(ITEMS)],
        user_keys=[str(each) for each in EVENTS.user_ids],
        item_keys=keys,
        item_titles=keys,
        user_id_kind="integer",
        item_id_kind="integer",
        data_range=(0, 1),
        events_read=EVENTS.n_events,
        events_kept=EVENTS.n_events,
        notes=(),
        item_vectors=features.vectors,
    )


def teacher_file(folder: Path, features: Features) -> tuple[DistilConfig, Retriever]:
    torch.manual_seed(0)
    model = Retriever(retrieve_config(), features, HISTORY).eval()
    config = BuildConfig.model_validate(
        {
            "name": "shop",
            "data": {"events": {"path": "x.csv", "user": "u", "item": "i", "timestamp": "t"}},
            "contract": {"candidates": 10, "results": 5, "history": HISTORY},
            "retrieve": retrieve_config(),
        }
    )
    path = folder / "model.pt"
    write_teacher(path, model, features, config, dataset_of(features), held_out=1, settings={})
    return DistilConfig(teacher=path), model


@pytest.mark.parametrize("learned", [PLAIN, SEEN], ids=["without", "with"])
def test_a_teacher_sees_the_vectors_that_it_was_trained_with(learned: Features, tmp_path: Path) -> None:
    """The data may have more by now."""
    config, model = teacher_file(tmp_path, learned)
    more = replace(PLAIN, vectors={"image": images(), "sound": images()})
    teacher = Teacher.open(config, dataset_of(more), held_out=1)
    torch.testing.assert_close(teacher.vectors[1:], model.items()[1:].detach())


def test_a_teacher_whose_vectors_the_data_lack_is_refused(tmp_path: Path) -> None:
    config, _ = teacher_file(tmp_path, SEEN)
    with pytest.raises(
        ConfigError, match=r"item vectors image, 12 wide, are not in the data, which have none"
    ):
        Teacher.open(config, dataset_of(PLAIN), held_out=1)
