from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as trusted

from tools.evaluation import click_metrics

Array = npt.NDArray[Any]


@st.composite
def clicks(draw: st.DrawFn) -> tuple[Array, Array]:
    """Probabilities, many of them tied, and outcomes of which at least one is each."""
    outcomes = [0, 1, *draw(st.lists(st.integers(0, 1), max_size=30))]
    stated = draw(
        st.lists(
            st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1)),
            min_size=len(outcomes),
            max_size=len(outcomes),
        )
    )
    return np.array(stated), np.array(outcomes)


@given(clicks())
@settings(max_examples=50)
def test_figures_of_clicks_agree_with_scikit_learn(data: tuple[Array, Array]) -> None:
    stated, clicked = data
    assert click_metrics.auc(stated, clicked) == pytest.approx(trusted.roc_auc_score(clicked, stated))
    assert click_metrics.accuracy(stated, clicked) == pytest.approx(
        trusted.accuracy_score(clicked, stated > 0.5)
    )
    assert click_metrics.log_loss(stated, clicked) == pytest.approx(trusted.log_loss(clicked, stated))


def test_figures_of_ratings_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    predicted, rating = random.uniform(1, 5, 100), random.integers(1, 6, 100)
    assert click_metrics.mean_squared_error(predicted, rating) == pytest.approx(
        trusted.mean_squared_error(rating, predicted)
    )
    assert click_metrics.mean_absolute_error(predicted, rating) == pytest.approx(
        trusted.mean_absolute_error(rating, predicted)
    )


def test_the_area_by_hand() -> None:
    # Of four pairs one is tied and one in the wrong order.
    assert click_metrics.auc(np.array([0.9, 0.3, 0.3, 0.5]), np.array([1, 1, 0, 0])) == (2 + 0.5) / 4


def test_where_all_or_none_was_clicked_there_is_no_area() -> None:
    for outcome in (0, 1):
        assert np.isnan(click_metrics.auc(np.array([0.1, 0.2]), np.full(2, outcome)))


def test_each_users_area_is_among_the_places_that_hold_an_item() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    clicked = np.array([[0, 1, 0], [0, 1, 0], [0, 0, 0]])
    shown = np.array([[True, True, True], [False, True, True], [True, True, True]])
    assert click_metrics.auc_per_user(scores, clicked, shown) == pytest.approx(
        [0.5, 1.0, np.nan], nan_ok=True
    )


def test_one_certain_mistake_does_not_make_the_loss_infinite() -> None:
    assert click_metrics.log_loss(np.array([0.0, 0.5]), np.array([1, 1])) == pytest.approx(
        (-np.log(np.finfo(float).eps) + np.log(2)) / 2
    )


def test_of_nothing_every_figure_is_not_a_number() -> None:
    nothing = np.zeros(0)
    for name in ("auc", "accuracy", "log_loss", "mean_squared_error", "mean_absolute_error"):
        assert np.isnan(getattr(click_metrics, name)(nothing, nothing))


@pytest.mark.parametrize(
    ("stated", "clicked", "message"),
    [
        ([0.5, 1.5], [0, 1], "outside 0 to 1"),
        ([0.5, 0.5], [0, 2], "neither 0 nor 1"),
        ([0.5], [0, 1], r"scores \(1,\) and outcomes \(2,\)"),
        ([0.5, np.nan], [0, 1], "no number"),
    ],
)
def test_what_is_no_probability_or_outcome_is_refused(
    stated: list[float], clicked: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        click_metrics.log_loss(np.array(stated), np.array(clicked))
