from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_material import asks, crowd, material_of, opened, section
from tritonrec_client.contract import Sizes

from tools.channels.item_rows import ItemRows
from tools.channels.registry import fit_channel
from tools.config.build import ConfigError
from tools.data.interactions import Interactions
from tools.evaluation.baselines import EASE
from tools.training.evidence import Neighbours

PEOPLE = crowd()
WIDE = Sizes(candidates=60, results=5, history=6, seen=24, user_features=1)


def fit(interactions: Interactions = PEOPLE, **keys: Any) -> ItemRows:
    channel = fit_channel(section("ease", **{"regularisation": 20, **keys}), material_of(interactions))
    assert isinstance(channel, ItemRows)
    return channel


def test_lists_are_those_of_the_report_s_baseline(tmp_path: Path) -> None:
    everybody = asks(*(PEOPLE.user(row).tolist() for row in range(PEOPLE.n_users)), sizes=WIDE)
    found = opened(fit(), tmp_path / "channel", WIDE)(everybody)["candidate"]
    baseline = EASE(regularisation=20).fit(PEOPLE)
    scores = baseline._score(PEOPLE.to_csr())
    # Items that nobody has met score 0 there, in the middle; here they are no candidates.
    scores[:, ~PEOPLE.popularity().astype(bool)] = -np.inf
    for row in range(PEOPLE.n_users):
        scores[row, PEOPLE.user(row)] = -np.inf
        best = np.sort(scores[row])[::-1][: WIDE.candidates]
        items = found[row][found[row] > 0]
        assert np.allclose(scores[row, items], best[: len(items)], atol=1e-5)
        assert (best[len(items) :] == -np.inf).all()


def test_a_larger_catalogue_keeps_the_greatest_weights_of_each_item_as_the_ranker_s_evidence_does() -> None:
    kept = fit(whole_items=79, neighbours=12).matrix
    evidence = Neighbours.of(PEOPLE, 12)
    assert np.diff(kept.indptr).max() == 12
    whole = fit(whole_items=80).matrix
    assert isinstance(whole, np.ndarray)
    for item in range(1, 81):
        row = kept[item].toarray()[0]
        assert np.allclose(row[row != 0], whole[item][row != 0])
        assert np.abs(whole[item][row == 0]).max() <= np.abs(row[row != 0]).min(initial=np.inf)
    assert len(evidence.items) == kept.shape[0]


def test_truncated_rows_that_keep_everything_give_the_same_lists_as_whole_ones(tmp_path: Path) -> None:
    asked = asks([1, 5, 9], [30, 2, 4, 8, 16])
    whole = opened(fit(), tmp_path / "whole")(asked)
    kept = opened(fit(whole_items=0, neighbours=81), tmp_path / "kept")(asked)
    for name in whole:
        assert np.array_equal(whole[name], kept[name])


def test_a_catalogue_too_large_for_the_closed_form_is_a_problem_of_the_configuration() -> None:
    large = crowd(n_users=2, n_items=20_001)
    with pytest.raises(
        ConfigError, match=r"channels: EASE inverts .* 20,001 items .*; leave the channel with"
    ):
        fit(large)
