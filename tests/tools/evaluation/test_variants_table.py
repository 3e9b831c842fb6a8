"""The report's table of the ranker's variants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.evaluation.evaluation import Evaluation
from tools.evaluation.figures import compute_figures
from tools.evaluation.plots import PLOTS
from tools.evaluation.report import render_page

Make = Callable[..., Evaluation]
NO_PLOTS = dict.fromkeys(PLOTS, "<svg/>")


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def receipt() -> dict[str, Any]:
    rows = [
        {
            "variant": variant,
            "bytes": 1234567,
            "alone_ms": 0.5,
            "together_ms": 0.4,
            "alone_speed": interval(1.61),
            "together_speed": interval(speed),
            "ndcg_10": interval(0.1234),
            "recall_500": interval(0.95),
            "ndcg_ratio": interval(0.987),
            "recall_ratio": interval(1.0),
        }
        for variant, speed in (("full", 1.0), ("int8", 1.73))
    ]
    return {
        "format": 1,
        "rows": rows,
        "chosen": "int8",
        "least_ratio": 0.95,
        "measured_on": "validation items",
        "users": 943,
        "repeats": 300,
        "machine": "a machine",
        "elsewhere": {"TensorRT, FP16": "python tools/bench_gpu.py"},
    }


def test_a_report_that_was_not_asked_for_variants_has_no_table(make_evaluation: Make) -> None:
    figures = compute_figures(make_evaluation())
    assert figures["receipt"] is None
    assert "Variants of the ranker" not in render_page(figures, NO_PLOTS)


def test_the_table_has_a_row_for_each_variant_and_says_which_is_served(make_evaluation: Make) -> None:
    figures = compute_figures(make_evaluation(receipt=receipt(), variant="int8"))
    page = render_page(figures, NO_PLOTS)
    assert figures["rank_variant"] == "int8"
    for text in ("Variants of the ranker", "1,234,567", "1.73", "0.987", "0.1234", "Served here: int8"):
        assert text in page
    assert page.count("<small>chosen</small>") == 1


def test_what_this_machine_cannot_measure_is_marked_so_with_its_command(make_evaluation: Make) -> None:
    page = render_page(compute_figures(make_evaluation(receipt=receipt())), NO_PLOTS)
    assert "TensorRT, FP16" in page
    assert "not measured; <code>python tools/bench_gpu.py</code>" in page
