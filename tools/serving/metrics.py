"""What Triton's metrics say about the stages: how many batches each worked on, and for how long."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from tritonrec_client.contract import RETRIEVE_AND_RANK, STAGE_SECONDS

TIMEOUT = 5.0

_STEPS = ("feature_lookup", "retrieve", "merge", "rank", "cut", "blend", "rerank")


@dataclass(frozen=True, slots=True)
class StageTime:
    """Batches of a stage and the seconds they took in it, since its models were loaded."""

    batches: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: StageTime) -> StageTime:
        """Two processes, or two releases, together."""
        return StageTime(self.batches + other.batches, self.seconds + other.seconds)

    def __sub__(self, earlier: StageTime) -> StageTime:
        """What happened between two looks."""
        return StageTime(self.batches - earlier.batches, self.seconds - earlier.seconds)


def read_stage_times(address: str) -> dict[str, StageTime]:
    """The times of each stage, all releases together, from the metrics at `address` (host:port).

    They are up to a second old. Empty where nobody answers there.
    """
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=TIMEOUT) as answer:
            return stage_times(answer.read().decode("utf-8"))
    except (urllib.error.URLError, OSError):
        return {}


def stage_times(exposition: str) -> dict[str, StageTime]:
    """The times of each stage in metrics as Prometheus reads them."""
    found: dict[str, StageTime] = {}
    # Parsing all of them every second would disturb a load test.
    parts = (f"{STAGE_SECONDS}_sum{{", f"{STAGE_SECONDS}_count{{")
    lines = [line for line in exposition.splitlines() if line.startswith(parts)]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            time = _time(sample.name, sample.value)
            if time is not None:
                stage = sample.labels["stage"]
                found[stage] = found.get(stage, StageTime()) + time
    return found


def steps_among(models: Iterable[str]) -> list[str]:
    """Those of `models` that are steps on the way to a page, in about its order; channels by their names."""
    order = {}
    for name in models:
        stage = name if name in _STEPS else name.partition("_")[0]
        if stage in _STEPS and name != RETRIEVE_AND_RANK.name:
            order[name] = (_STEPS.index(stage), name)
    return sorted(order, key=lambda name: order[name])


def spent(before: Mapping[str, StageTime], after: Mapping[str, StageTime]) -> dict[str, StageTime]:
    """What each stage did between two looks, where it did anything."""
    times = {stage: time - before.get(stage, StageTime()) for stage, time in after.items()}
    return {stage: time for stage, time in times.items() if time.batches > 0}


def _time(name: str, value: float) -> StageTime | None:
    if name == f"{STAGE_SECONDS}_count":
        return StageTime(batches=value)
    return StageTime(seconds=value) if name == f"{STAGE_SECONDS}_sum" else None
