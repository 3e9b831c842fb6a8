"""What a load test or a capacity search leaves: report.json for programs, report.html for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from tools.evaluation.style import data_uri
from tools.load.histogram import RESOLUTION
from tools.load.plots import draw
from tools.load.recording import Recording, Tally
from tools.load.schedule import Step
from tools.load.search import Capacity
from tools.load.slo import Slo
from tools.load.stages import Bottleneck, StageWatch, bottleneck
from tools.machine import machine

Figures = dict[str, Any]
JSON, HTML = "report.json", "report.html"


@dataclass(frozen=True)
class Measurement:
    """One run of a schedule, with what the server and the generator did meanwhile."""

    recording: Recording
    watch: StageWatch
    began: float
    """`time.perf_counter` at the schedule's beginning."""
    cpu_seconds: float
    """CPU time of the generator's process during the schedule."""
    wall_seconds: float


@dataclass(frozen=True)
class Setting:
    """What was asked for: goes into the report as it is."""

    title: str
    address: str
    mix: str
    options: Mapping[str, Any] = field(default_factory=dict)


def step_figures(measurement: Measurement, slo: Slo | None) -> list[Figures]:
    """Each counted step: its rates, its tallies by kind, the verdicts, the stages' use, the bottleneck."""
    found = []
    begin = measurement.began
    for step, tallies in zip(measurement.recording.steps, measurement.recording.tallies, strict=True):
        end = begin + step.seconds
        if step.counted:
            found.append(_step(measurement, step, tallies, slo, begin, end))
        begin = end
    return found


def _step(
    measurement: Measurement, step: Step, tallies: dict[str, Tally], slo: Slo | None, begin: float, end: float
) -> Figures:
    uses = measurement.watch.uses(begin - 0.2, end + 0.2)
    cpu = measurement.watch.cpu(begin - 0.2, end + 0.2)
    pages = tallies.get("recommend", Tally())
    return {
        "rate": step.rate,
        "seconds": step.seconds,
        "answered_per_second": round(pages.answered / step.seconds, 2),
        "requests": {kind: tally.figures() for kind, tally in sorted(tallies.items())},
        "slo": [
            {
                "limit": verdict.limit.text,
                "held": verdict.holds,
                "measured": verdict.limit.write(verdict.measured),
                "text": str(verdict),
            }
            for verdict in (slo.judge(tallies) if slo else ())
        ],
        "stages": {name: use.figures() for name, use in uses.items()},
        "machine_cpu": round(cpu, 4),
        "bottleneck": _named(bottleneck(uses, cpu)),
    }


def load_figures(setting: Setting, measurement: Measurement, slo: Slo | None) -> Figures:
    """All figures of a load test. ``held`` is None where no objective was given."""
    recording = measurement.recording
    steps = step_figures(measurement, slo)
    verdicts = [verdict["held"] for step in steps for verdict in step["slo"]]
    return {
        **_head(setting, slo),
        "kind": "load",
        "held": all(verdicts) if verdicts else None,
        "warm_up_seconds": sum(step.seconds for step in recording.steps if not step.counted),
        "steps": steps,
        "generator": {
            "cpu_cores": round(measurement.cpu_seconds / max(1e-9, measurement.wall_seconds), 4),
            "cpu_ms_per_request": round(1000 * measurement.cpu_seconds / max(1, len(recording.sent_late)), 4),
            "sent_late_ms": {
                f"p{percent}": round(recording.sent_late.percentile(percent), 3)
                for percent in (50, 99, 100)
                if len(recording.sent_late)
            },
        },
        "problems": recording.problems,
        "over_time": recording.over_time(),
        "stages_over_time": measurement.watch.over_time(measurement.began),
    }


def capacity_figures(
    setting: Setting, slo: Slo, capacity: Capacity, probes: list[Figures], seconds: float
) -> Figures:
    """All figures of a capacity search; `probes` has the load figures of each probe, in order.

    The bottleneck is that of the lowest rate that missed, else of the highest that held.
    """
    at = capacity.missed if capacity.missed is not None else capacity.held
    steps = [probe["steps"][0] for probe in probes]
    telling = [step for step in steps if step["rate"] == at and step["bottleneck"]]
    return {
        **_head(setting, slo),
        "kind": "capacity",
        "capacity": round(capacity.held, 2),
        "missed": None if capacity.missed is None else round(capacity.missed, 2),
        "resolution": None if capacity.resolution is None else round(capacity.resolution, 4),
        "complete": capacity.complete,
        "search_seconds": round(seconds, 1),
        "bottleneck": telling[-1]["bottleneck"] if telling else None,
        "probes": [
            {**step, "held": probe["held"], "generator": probe["generator"]}
            for probe, step in zip(probes, steps, strict=True)
        ],
    }


def write_report(figures: Figures, folder: Path) -> tuple[Path, Path]:
    """Write both files into `folder`; their paths. The page is self-contained: it makes no request."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
    paths = folder / JSON, folder / HTML
    paths[0].write_text(text + "\n", encoding="utf-8")
    paths[1].write_text(render_page(figures), encoding="utf-8")
    return paths


def render_page(figures: Figures) -> str:
    """The page of `figures` as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html", "jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ms"] = lambda value: "–" if value is None else f"{value:,.2f}"
    environment.filters["count"] = lambda value: "–" if value is None else f"{value:,.0f}"
    environment.filters["rate"] = lambda value: "–" if value is None else f"{value:,.1f}"
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f} %"
    return environment.get_template("page.html.jinja").render(
        figures=figures, plots={name: data_uri(svg) for name, svg in draw(figures).items()}
    )


def _head(setting: Setting, slo: Slo | None) -> Figures:
    return {
        "title": setting.title,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "address": setting.address,
        "mix": setting.mix,
        "slo": None if slo is None else str(slo),
        "options": dict(setting.options),
        "machine": machine(),
        "latency_resolution": RESOLUTION,
    }


def _named(found: Bottleneck | None) -> Figures | None:
    return None if found is None else {"stage": found.stage, "reason": found.reason}
