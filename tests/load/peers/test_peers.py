from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from compare import choose
from drawing import draw, latency_curve
from figures import Findings, ratios
from measuring import Shot, capacity_near
from sides import DOCUMENTED, OURS, PEERS, TUNED
from transports import as_page, differences, encode

ANSWER = {"item_id": [7, 9, -1], "score": [0.5, 0.25, 0.0], "reason": [1, 3, 0], "status": 64}


def shot(rate: float, p99: float = 20.0, *, holds: bool = True) -> Shot:
    return Shot(rate, holds, holds, p99 / 2, p99, 100, 0, 0, {}, 1.2, 0.1, 0.3, 0.5, 0.2)


def findings(name: str, style: str, *capacities: float) -> Findings:
    probes = [shot(rate) for rate in capacities]
    enclosed = [True] * len(capacities)
    return Findings(name, style, [3.0], [6.0], list(capacities), enclosed, shots=probes)


def held_below(limit: float, asked: list[float]) -> object:
    def probe(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    return probe


@pytest.mark.parametrize("limit", [100.0, 104.0, 180.0, 99.0, 60.0])
def test_a_capacity_is_found_again_from_where_it_was(limit: float) -> None:
    asked: list[float] = []
    found, enclosed = capacity_near(held_below(limit, asked), 100.0)  # type: ignore[arg-type]
    assert enclosed
    assert found == max(rate for rate in asked if rate <= limit)
    assert any(rate > limit for rate in asked)


def test_two_probes_do_where_nothing_changed() -> None:
    asked: list[float] = []
    capacity_near(held_below(102.0, asked), 100.0)  # type: ignore[arg-type]
    assert asked == pytest.approx([100.0, 105.0])


def test_where_no_rate_holds_the_capacity_is_0_and_the_search_ends() -> None:
    asked: list[float] = []
    assert capacity_near(held_below(0.0, asked), 100.0, most=4) == (0.0, False)  # type: ignore[arg-type]
    assert len(asked) == 4


def test_the_best_peer_of_each_style_is_what_we_are_compared_with() -> None:
    found = ratios(
        [
            findings(OURS, "as shipped", 300, 330, 360),
            findings("FastAPI, documented", DOCUMENTED, 100, 110, 120),
            findings("BentoML, documented", DOCUMENTED, 90, 90, 500),
            findings("Ray Serve, tuned", TUNED, 200, 220, 210),
        ]
    )
    documented = found["ours ÷ best peer documented"]
    assert (documented["best"], documented["ratio"]) == ("FastAPI, documented", 3.0)
    assert documented["repeats"] == [3.0, 3.0, 3.0]
    assert found["ours ÷ best peer tuned"]["ratio"] == pytest.approx(330 / 210, abs=1e-3)


def test_a_side_without_capacity_is_no_best_peer() -> None:
    nothing = findings("FastAPI, tuned", TUNED, 0, 0, 0)
    assert "ours ÷ best peer tuned" not in ratios([findings(OURS, "as shipped", 300), nothing])


def test_steadiness_is_the_median_of_each_repeats_own_quotient() -> None:
    ours = findings(OURS, "as shipped", 300)
    ours.steady = [
        Shot(210, True, True, p50, p99, 9, 0, 0, {}, 0, 0, 0, 0, 0) for p50, p99 in ((5, 10), (4, 12), (5, 6))
    ]
    assert ratios([ours])["p99 ÷ p50 at 70 % of our capacity"]["ratio"] == 2.0


def test_the_generators_cost_is_that_of_probes_near_the_capacity() -> None:
    each = findings("FastAPI, tuned", TUNED, 100)
    each.shots += [shot(20), shot(98), shot(103, holds=False)]
    assert [near.rate for near in each.near_capacity()] == [100, 98]


def test_a_side_that_never_held_has_no_cost_of_the_generator() -> None:
    each = findings("FastAPI, tuned", TUNED, 0)
    each.shots = [shot(10, holds=False)]
    assert each.figures()["generator_cores"] is None


def test_every_figure_can_be_written_as_json() -> None:
    each = findings("FastAPI, tuned", TUNED, 100)
    each.shots.append(shot(200, math.inf, holds=False))
    text = json.dumps(each.figures() | ratios([each]), allow_nan=False)
    assert json.loads(text)["probes"][-1]["p99"] is None


def test_a_query_carries_the_session_without_its_padding() -> None:
    session = np.array([5, 8, -1, -1])
    alone = {"user_id": 3, "session_items": [5, 8], "diversity": pytest.approx(0.3)}
    assert json.loads(encode(3, session, False)) == alone
    assert json.loads(encode(-1, session, True)) == {"queries": [alone | {"user_id": -1}]}


def test_the_same_page_is_the_same_in_every_format() -> None:
    page = as_page(ANSWER)
    assert page["score"].dtype == np.float32
    assert differences(page, as_page(json.loads(json.dumps(ANSWER)))) == []


@pytest.mark.parametrize("field", ["item_id", "score", "reason"])
def test_another_answer_is_noticed_and_its_field_named(field: str) -> None:
    other = ANSWER | {field: [*ANSWER[field][:2], 4]}  # type: ignore[index]
    assert differences(as_page(ANSWER), as_page(other)) == [field]
    shorter = ANSWER | {field: ANSWER[field][:2]}  # type: ignore[index]
    assert differences(as_page(ANSWER), as_page(shorter)) == [field]


def test_a_status_that_differs_is_noticed() -> None:
    assert differences(as_page(ANSWER), as_page(ANSWER | {"status": 0})) == ["status"]


def test_each_framework_is_there_as_documented_and_tuned() -> None:
    styles = {(peer.framework, peer.style) for peer in PEERS}
    assert styles == {
        (each, style) for each in ("FastAPI", "BentoML", "Ray Serve") for style in (DOCUMENTED, TUNED)
    }


def test_sides_are_chosen_by_a_part_of_their_name() -> None:
    assert len(choose([])) == 7
    assert choose(["fastapi", OURS]) == [OURS, "FastAPI, documented", "FastAPI, tuned"]
    with pytest.raises(ValueError, match="--only: found 'flask'; allowed is a part of tritonrec"):
        choose(["flask"])


def test_probes_close_together_are_one_point_of_the_curve() -> None:
    each = findings("FastAPI, tuned", TUNED, 100)
    each.shots = [shot(100, 20), shot(101, 40), shot(200, 80), shot(400, math.inf, holds=False)]
    assert latency_curve(each) == [(100.5, 30.0), (200, 80)]


def test_the_plot_names_every_side() -> None:
    sides = [findings(OURS, "as shipped", 300, 310), findings("FastAPI, tuned", TUNED, 100, 90)]
    assert draw(sides, 50.0).startswith("<?xml")


def test_the_requirements_are_pinned() -> None:
    lines = Path(__file__).with_name("requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    assert all("==" in line for line in wanted if line)
