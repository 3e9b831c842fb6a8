"""The demonstration: whom it asks for, and how it shows where the time goes."""

from __future__ import annotations

from tools.demo import SHOWN, example_requests, share_lines
from tools.serving.metrics import StageTime
from tools.serving.server import Statistics

EXAMPLES = {
    "heavy_user": "7",
    "light_user": "19",
    "session": ["3", "5"],
    "user_id_kind": "integer",
    "item_id_kind": "string",
}


def test_it_asks_for_a_heavy_a_light_an_unknown_and_an_anonymous_user() -> None:
    heavy, light, unknown, anonymous = example_requests(EXAMPLES, {"3": "Three", "5": "Five"}).items()
    assert (heavy[1].user, light[1].user) == (7, 19)
    assert isinstance(unknown[1].user, str)
    assert anonymous[0] == "Somebody anonymous who just looked at Three · Five"
    assert (anonymous[1].user, list(anonymous[1].session)) == (None, ["3", "5"])
    assert {request.count for _, request in (heavy, light, unknown, anonymous)} == {SHOWN}


def test_each_stage_has_its_share_of_what_a_client_waits() -> None:
    pipeline = Statistics(requests=10, executions=10, queue_ms=4, compute_ms=60)
    times = {"retrieve": StageTime(batches=10, seconds=0.02), "rank": StageTime(batches=10, seconds=0.032)}
    retrieve, rank, around, queue, rest, total = share_lines(pipeline, times, client_ms=8.0)
    assert retrieve.split()[:4] == ["retrieve", "2.00", "ms", "25%"]
    assert rank.split()[:4] == ["rank", "3.20", "ms", "40%"]
    assert around.split()[:5] == ["Triton,", "around", "0.80", "ms", "10%"]
    assert queue.split()[:5] == ["Triton,", "queue", "0.40", "ms", "5%"]
    assert rest.split()[:5] == ["the", "rest", "1.60", "ms", "20%"]
    assert total.split()[-2:] == ["8.00", "ms"]
