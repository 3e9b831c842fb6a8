from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.compression.receipt import Receipt, Row, choose, read_receipt
from tools.config.build import ConfigError
from tools.evaluation.metrics import Interval

SURE = Interval(1.0, 1.0, 1.0)


def row(variant: str, ms: float, low: float, high: float, *, slowest: float | None = None) -> Row:
    """A variant that takes `ms`, and whose NDCG@10 ÷ that of the full model lies between `low` and `high`."""
    speed = 1 / ms
    return Row(
        variant=variant,
        bytes=100,
        alone_ms=ms,
        together_ms=ms,
        alone_speed=Interval(speed, speed, speed),
        together_speed=Interval(speed, slowest or speed, speed),
        ndcg_10=Interval(0.1, 0.09, 0.11),
        recall_500=SURE,
        ndcg_ratio=Interval((low + high) / 2, low, high),
        recall_ratio=SURE,
    )


FULL = row("full", 1.0, 1.0, 1.0)


def test_the_cheapest_that_is_not_worse_is_chosen() -> None:
    rows = [FULL, row("slower", 0.8, 0.99, 1.01), row("faster", 0.4, 0.99, 1.01)]
    assert choose(rows, 0.95).variant == "faster"


def test_one_that_is_measurably_worse_is_refused_however_fast_it_is() -> None:
    rows = [FULL, row("worse", 0.1, 0.97, 0.99), row("same", 0.5, 0.98, 1.02)]
    assert choose(rows, 0.95).variant == "same"


def test_one_of_which_too_little_is_known_is_refused() -> None:
    rows = [FULL, row("unknown", 0.1, 0.8, 1.2)]
    assert choose(rows, 0.95).variant == "full"
    assert choose(rows, 0.8).variant == "unknown"


def test_one_that_is_better_is_as_good_as_the_same() -> None:
    assert choose([FULL, row("better", 0.5, 1.01, 1.1)], 0.95).variant == "better"


def test_one_that_may_be_no_faster_is_not_worth_it() -> None:
    assert choose([FULL, row("maybe", 0.95, 0.99, 1.01, slowest=0.98)], 0.95).variant == "full"


def test_without_any_other_the_full_model_stays() -> None:
    assert choose([FULL], 0.95) is FULL


def test_a_receipt_is_read_as_it_was_written(tmp_path: Path) -> None:
    receipt = Receipt((FULL,), "full", 0.95, "validation items", 7, 300, "a machine")
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(receipt.to_dict()))
    assert read_receipt(path) == json.loads(json.dumps(receipt.to_dict()))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ("not json", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 7}', "has format 7 and lacks rows, chosen"),
    ],
)
def test_a_file_that_is_no_receipt_is_named(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "receipt.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"--receipt: {path} {problem}"):
        read_receipt(path)
