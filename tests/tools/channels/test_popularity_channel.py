from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from memory_material import asks, crowd, events_of, material_of, opened, section

from tools.channels.popularity import LEAST, SECONDS_PER_DAY, LogShares
from tools.channels.registry import fit_channel
from tools.data.interactions import Interactions

DAY = SECONDS_PER_DAY


def fit(interactions: Interactions, half_life_days: float) -> LogShares:
    channel = fit_channel(section("popularity", half_life_days=half_life_days), material_of(interactions))
    assert isinstance(channel, LogShares)
    return channel


def test_an_event_counts_half_as_much_as_one_that_is_a_half_life_newer() -> None:
    people = events_of([1, 2], [1, 3], timestamps=[0, 10 * DAY, 0, 20 * DAY], n_items=80)
    shares = np.exp(fit(people, half_life_days=10).scores)
    # Twice a quarter, a half, and one.
    assert shares[[1, 2, 3]] == pytest.approx([0.25, 0.25, 0.5])


def test_with_a_long_half_life_it_is_the_share_of_events() -> None:
    people = crowd()
    popularity = people.popularity()
    scores = fit(people, half_life_days=1e9).scores
    met = popularity > 0
    assert np.exp(scores[met]) == pytest.approx(popularity[met] / popularity.sum(), rel=1e-5)
    assert np.isnan(scores[~met]).all()


def test_what_was_popular_ages_ago_is_still_found_after_everything_newer(tmp_path: Path) -> None:
    people = events_of([7], [1], [2], timestamps=[0, 10**9, 10**9 + DAY], n_items=80)
    channel = fit(people, half_life_days=0.5)
    answer = opened(channel, tmp_path / "channel")(asks([]))
    assert answer["candidate"][0, :4].tolist() == [2, 1, 7, 0]
    assert answer["retrieval_score"][0, 2] == pytest.approx(LEAST)


def test_without_any_event_nothing_is_popular(tmp_path: Path) -> None:
    nobody = events_of([], [], n_items=80)
    assert not opened(fit(nobody, 30), tmp_path / "channel")(asks([]))["candidate"].any()
