"""Made-up histories and models: what they are like, and that a seed decides all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tools.data.dataset import Dataset
from tools.synthetic.catalogue import (
    sample_of,
    synthetic_config,
    synthetic_dataset,
    synthetic_vectors,
    untrained_models,
)
from tools.synthetic.histories import draw_histories, groups_of
from tools.training.features import Features

ITEMS, USERS = 2000, 3000


def dataset_of(seed: int, items: int = ITEMS, users: int = USERS) -> Dataset:
    config = synthetic_config(items, seed, Path("nowhere"))
    return synthetic_dataset(synthetic_vectors(items, config), users, seed)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_of(1)


def test_the_same_seed_gives_the_same_data_and_another_gives_others(dataset: Dataset) -> None:
    again, other = dataset_of(1), dataset_of(2)
    for name in ("offsets", "items", "timestamps", "user_ids", "item_ids"):
        assert np.array_equal(getattr(dataset.interactions, name), getattr(again.interactions, name))
    assert dataset.user_features == again.user_features
    assert dataset.item_features == again.item_features
    assert not np.array_equal(dataset.interactions.items[:1000], other.interactions.items[:1000])


def test_everybody_has_a_history_in_time_order_without_an_item_twice(dataset: Dataset) -> None:
    known = dataset.interactions
    assert known.n_users == USERS
    assert known.n_items == ITEMS
    assert known.lengths.min() >= 1
    for row in range(0, USERS, 50):
        times = known.timestamps[known.offsets[row] : known.offsets[row + 1]]
        assert len(np.unique(known.user(row))) == known.lengths[row]
        assert (np.diff(times) > 0).all()


def test_an_item_of_rank_r_is_met_in_proportion_to_one_over_r() -> None:
    groups = np.zeros(1000, dtype=np.int32)
    counts = np.sort(draw_histories(groups, 20_000, seed=1).popularity()[1:])[::-1]
    # Who has met the most popular ones often draws them again, which does not count: so further back.
    ranks = np.arange(100, 801)
    slope = np.polyfit(np.log(ranks), np.log(counts[ranks - 1]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)


def test_what_a_user_meets_lies_in_few_groups(dataset: Dataset) -> None:
    config = synthetic_config(ITEMS, 1, Path("nowhere"))
    groups = groups_of(synthetic_vectors(ITEMS, config), 1)
    assert len(np.unique(groups)) > 50
    for row in range(0, USERS, 100):
        assert len(np.unique(groups[dataset.interactions.user(row) - 1])) <= 3


def test_a_sample_holds_the_same_users_with_the_whole_catalogue(dataset: Dataset) -> None:
    sample, rows = sample_of(dataset, 7)
    assert sample.interactions.n_users == len(rows) == 7
    assert sample.interactions.n_items == ITEMS
    for place, row in enumerate(rows):
        assert np.array_equal(sample.interactions.user(place), dataset.interactions.user(row))
        assert sample.user_features[place] == dataset.user_features[row]


def test_models_have_the_made_up_vectors_and_the_seed_decides_the_rest(dataset: Dataset) -> None:
    config = synthetic_config(ITEMS, 1, Path("nowhere"))
    vectors = synthetic_vectors(ITEMS, config)
    features, popularity = Features.of(dataset, config), dataset.interactions.popularity()
    models = untrained_models(config, features, vectors, popularity)
    again = untrained_models(config, features, vectors, popularity)
    np.testing.assert_array_equal(models.retriever.items.identity.weight[1:].detach().numpy(), vectors)
    for one, other in ((models.retriever, again.retriever), (models.ranker, again.ranker)):
        weights = one.state_dict()
        assert all(torch.equal(weights[name], weight) for name, weight in other.state_dict().items())
    assert models.retriever.bias[int(popularity[1:].argmax()) + 1] > models.retriever.bias[1:].mean()


def test_the_configuration_names_no_file_and_keeps_the_shipped_widths() -> None:
    config = synthetic_config(1000, 3, Path("here"))
    assert config.name == "synthetic-1000"
    assert str(config.data.events.path) == "SYNTHETIC"
    assert (config.sizes.candidates, config.sizes.history) == (500, 50)
    assert config.compress.student.form.items() <= config.rank.model_dump().items()
    assert synthetic_config(300, 3, Path("here")).sizes.candidates == 300
