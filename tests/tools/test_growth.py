"""Figures of several sizes as tables and as a plot."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rich.console import Console

from tools.growth import GIB, growth_of, growth_plot, latency_table, memory_by_model, memory_table


def size(items: int, served: float, in_process: float) -> dict[str, Any]:
    return {
        "items": items,
        "users": 2 * items,
        "build": {"seconds": {"one": 3.0, "other": 4.0}, "peak_bytes": {"all processes": 3 * GIB}},
        "start_seconds": 4.25,
        "latency": {
            "served": {"p50": served, "p99": 2 * served},
            "in process": {"p50": in_process, "p99": 3 * in_process},
            "served p50 - in process p50": served - in_process,
            "served p50 / in process p50": served / in_process,
        },
        "memory": {
            "local": {"pipeline_0123456789ab": [2 * GIB, 2 * GIB], "tritonserver": [GIB // 50]},
            "staged": {
                "retrieve_0123456789ab": [GIB, 2 * GIB],
                "rerank_0123456789ab": [GIB // 2],
                "record_event": [GIB // 100],
                "tritonserver": [GIB // 50],
            },
        },
    }


@pytest.fixture
def figures() -> dict[str, Any]:
    return {"sizes": [size(10_000, 4.0, 2.0), size(1_000_000, 20.0, 16.0)]}


def shown(table: object) -> str:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_latencies_of_every_size_are_shown_within_a_terminals_width(figures: dict[str, Any]) -> None:
    text = shown(latency_table(figures))
    assert "…" not in text
    assert "SYNTHETIC" in text
    assert re.search(r"served p50 +│ +4\.00 │ +20\.00 ", text)
    assert re.search(r"in process p99 +│ +6\.00 │ +48\.00 ", text)
    assert re.search(r"÷ in process p50 +│ +2\.00 │ +1\.25 ", text)


def test_memory_is_summed_over_a_models_instances(figures: dict[str, Any]) -> None:
    assert memory_by_model(figures["sizes"][0]["memory"]["staged"])["retrieve"] == 3 * GIB
    text = shown(memory_table(figures))
    assert re.search(r"pipeline × 2 +│ +4\.00 ", text)
    assert re.search(r"all of profile local +│ +4\.02 ", text)
    assert re.search(r"all of profile staged +│ +3\.53 ", text)
    assert re.search(r"retrieve × 2 +│ +3\.00 ", text)
    assert re.search(r"rerank +│ +0\.50 ", text)
    assert re.search(r"seconds to the first page +│ +4\.2", text)
    assert re.search(r"peak of the build +│ +3\.00 ", text)


def test_growth_compares_the_largest_with_the_smallest(figures: dict[str, Any]) -> None:
    assert growth_of(figures["sizes"]) == {"items": 100, "served p50": 5, "in process p50": 8}


def test_the_plot_is_the_same_for_the_same_figures(figures: dict[str, Any]) -> None:
    plot = growth_plot(figures)
    assert plot.startswith("<?xml")
    assert plot == growth_plot(figures)
    figures["sizes"][1]["latency"]["served"]["p50"] = 30.0
    assert plot != growth_plot(figures)


def test_one_size_can_be_drawn_too(figures: dict[str, Any]) -> None:
    del figures["sizes"][1]
    assert growth_plot(figures)
    assert growth_of(figures["sizes"])["items"] == 1
