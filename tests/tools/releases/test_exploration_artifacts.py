"""What a release that explores draws by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from python_backend.exploration import Exploration
from tools.checks import without_drawn
from tools.config.training import ExplorationConfig
from tools.data.impressions import Shown
from tools.data.interactions import Interactions
from tools.releases.exploration import draw_weights, posteriors, write_exploration

POPULARITY = np.array([0, 9, 1, 0])
INTERACTIONS = Interactions(
    np.array([0, 2, 3]),
    np.array([1, 2, 1], np.int32),
    np.arange(3),
    np.array([5, 6]),
    np.array([-1, 7, 8, 9]),
)


def config(**changes: Any) -> ExplorationConfig:
    return ExplorationConfig.model_validate({"places": 2} | changes)


def test_what_few_have_met_is_drawn_most_or_what_many_have() -> None:
    np.testing.assert_allclose(draw_weights(config(draw="inverse"), POPULARITY)[1:], [0.1, 0.5, 1])
    np.testing.assert_allclose(draw_weights(config(draw="smoothed"), POPULARITY)[1:], [10**0.75, 2**0.75, 1])
    np.testing.assert_allclose(draw_weights(config(draw="uniform"), POPULARITY)[1:], 1)


def test_before_anything_was_shown_the_share_of_users_stands_for_the_click_rate() -> None:
    nothing = Shown(np.zeros(4, int), np.zeros(4, int))
    alpha, beta = posteriors(10, POPULARITY, 19, nothing)
    np.testing.assert_allclose(alpha[1:] / (alpha + beta)[1:], [9.5 / 20, 1.5 / 20, 0.5 / 20])
    np.testing.assert_allclose(alpha + beta, 10)


def test_afterwards_views_and_clicks_do_on_top_of_the_rate_of_all() -> None:
    shown = Shown(np.array([0, 100, 98, 0]), np.array([0, 10, 9, 0]))
    alpha, beta = posteriors(10, POPULARITY, 19, shown)
    np.testing.assert_allclose(alpha[1:], [11, 10, 1])
    np.testing.assert_allclose(beta[1:], [99, 98, 9])


@pytest.mark.parametrize("method", ["epsilon", "thompson"])
def test_a_release_explores_as_its_configuration_says(tmp_path: Path, method: str) -> None:
    write_exploration(tmp_path, config(method=method, epsilon=0.5, pool=3), INTERACTIONS, None)
    assert json.loads((tmp_path / "exploration.json").read_text())["method"] == method
    exploration = Exploration.read(tmp_path)
    assert exploration is not None
    assert exploration.places == 2
    columns, chances = exploration.chances(np.array([[3, 1, 2]]), np.array([[3.0, 2.0, 1.0]]))
    assert columns.tolist() == [[0, 1, 2]]
    assert chances.sum() == pytest.approx(1)
    assert (chances > 0).all()


def test_by_default_nothing_is_written(tmp_path: Path) -> None:
    write_exploration(tmp_path, ExplorationConfig.model_validate({}), INTERACTIONS, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"places": -1}, {"epsilon": 0}, {"epsilon": 1.5}, {"pool": 1}, {"method": "ucb"}, {"draw": "x"}]
)
def test_what_cannot_be_explored_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        config(**wrong)


def test_pages_are_compared_without_the_places_that_were_drawn() -> None:
    page = {
        "item_id": np.array([[5, 6, 7]]),
        "score": np.array([[0.5, 0.25, 0.125]], np.float32),
        "because": np.array([[1, 1, 1]]),
        "propensity": np.array([[1, 0.5, 0.9]], np.float32),
        "status": np.array([[0]], np.int32),
    }
    found = without_drawn(page)
    assert {name: array.tolist() for name, array in found.items()} == {
        "item_id": [[5, -1, -1]],
        "score": [[0.5, 0, 0]],
        "because": [[1, -1, -1]],
        "propensity": [[1, 1, 1]],
        "status": [[0]],
    }
    assert {name: array.dtype for name, array in found.items()} == {
        name: array.dtype for name, array in page.items()
    }
    assert without_drawn({"candidate": np.array([[1]])}) == {"candidate": np.array([[1]])}
