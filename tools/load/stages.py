"""What Triton says about the stages while load runs: queues, compute, and which of them is the bottleneck."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import PIPELINE, RECOMMEND, RECORD_EVENT

from tools.serving.metrics import StageTime, read_stage_times, spent, steps_among
from tools.serving.server import Statistics

FULL = 0.95
"""The share of its time from which on a machine counts as fully used."""


@dataclass(frozen=True, slots=True)
class Look:
    """What Triton counted for one stage since it was loaded.

    `busy_ms` sums the time of each execution once, however many requests were in its batch.
    """

    counts: Statistics
    busy_ms: float


@dataclass(frozen=True, slots=True)
class Use:
    """How one stage was used over some seconds."""

    stage: str
    instances: int
    requests_per_second: float
    batch: float
    """Requests per execution; NaN where there was none."""
    queue_ms: float
    """How long a request waited for an instance, on average."""
    compute_ms: float
    """How long its execution took, on average."""
    utilisation: float
    """The share of the instances' time in which they executed: at 1 the stage can do no more."""

    def figures(self) -> dict[str, Any]:
        """The figures for a JSON."""
        return {
            "instances": self.instances,
            "requests_per_second": round(self.requests_per_second, 2),
            "batch": None if self.batch != self.batch else round(self.batch, 2),
            "queue_ms": round(self.queue_ms, 3),
            "compute_ms": round(self.compute_ms, 3),
            "utilisation": round(self.utilisation, 4),
        }


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The stage that is closest to its limit, and why it is named."""

    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at everything.

    `at` is a clock's seconds, `models` what Triton counted, `stages` what the stages measured themselves (up
    to a second old), `cpu` the machine's busy and total CPU seconds.
    """

    at: float
    models: dict[str, Look]
    stages: dict[str, StageTime]
    cpu: tuple[float, float]


class StageWatch:
    """Looks at a server's statistics every second from a thread of its own, in a with block.

    `address` is gRPC's; where the stages share one model, `metrics` (host:port) tells them apart.
    """

    def __init__(self, address: str, *, metrics: str | None = None, every: float = 1.0) -> None:
        self._client: Any = grpcclient.InferenceServerClient(address)
        self._metrics = metrics
        self._every = every
        self._instances = _instances(self._client)
        self.samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._sample()
        self._client.close()

    def uses(self, begin: float, end: float) -> dict[str, Use]:
        """How each stage was used between two times of `time.perf_counter`, by the stage's name."""
        inside = self._inside(begin, end)
        return self._between(inside[0], inside[-1]) if len(inside) > 1 else {}

    def cpu(self, begin: float, end: float) -> float:
        """The share of the machine's CPU time that was used meanwhile, by anybody."""
        inside = self._inside(begin, end)
        (busy, total), (busy_then, total_then) = inside[-1].cpu, inside[0].cpu
        return (busy - busy_then) / max(1e-9, total - total_then)

    def over_time(self, began: float) -> list[dict[str, Any]]:
        """Per interval between two looks: its middle, in seconds since `began`, and each stage's use."""
        return [
            {
                "second": round((earlier.at + later.at) / 2 - began, 2),
                "stages": {name: use.figures() for name, use in self._between(earlier, later).items()},
            }
            for earlier, later in zip(self.samples, self.samples[1:], strict=False)
            if later.at - earlier.at > self._every / 2
        ]

    def _inside(self, begin: float, end: float) -> list[Sample]:
        inside = [sample for sample in self.samples if begin <= sample.at <= end]
        return inside if len(inside) > 1 else self.samples

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            # A server under too much load may not answer; the next look covers the gap.
            with contextlib.suppress(InferenceServerException):
                self._sample()

    def _sample(self) -> None:
        models = self._client.get_inference_statistics(client_timeout=5.0).model_stats
        looks = {_stage(model.name): _look(model) for model in models if model.name in self._instances}
        stages = read_stage_times(self._metrics) if self._metrics else {}
        self.samples.append(Sample(time.perf_counter(), looks, stages, machine_cpu()))

    def _between(self, earlier: Sample, later: Sample) -> dict[str, Use]:
        seconds = later.at - earlier.at
        uses = {
            _stage(model): use(_stage(model), instances, seconds, earlier.models[name], later.models[name])
            for model, instances in self._instances.items()
            if (name := _stage(model)) in earlier.models and name in later.models
        }
        if PIPELINE.name in uses:
            uses |= inner_uses(uses[PIPELINE.name], seconds, spent(earlier.stages, later.stages))
        return uses


def use(stage: str, instances: int, seconds: float, earlier: Look, later: Look) -> Use:
    """How a stage was used in the `seconds` between two looks."""
    counts = later.counts - earlier.counts
    requests = max(1, counts.requests)
    return Use(
        stage=stage,
        instances=instances,
        requests_per_second=counts.requests / seconds,
        batch=counts.requests / counts.executions if counts.executions else float("nan"),
        queue_ms=counts.queue_ms / requests,
        compute_ms=counts.compute_ms / requests,
        utilisation=(later.busy_ms - earlier.busy_ms) / (1000 * seconds * instances),
    )


def inner_uses(pipeline: Use, seconds: float, times: Mapping[str, StageTime]) -> dict[str, Use]:
    """How the stages inside the model of all stages were used; they share its instances and its queue."""
    return {
        step: Use(
            stage=step,
            instances=pipeline.instances,
            requests_per_second=pipeline.requests_per_second,
            batch=pipeline.batch,
            queue_ms=0.0,
            compute_ms=1000 * times[step].seconds / times[step].batches,
            utilisation=times[step].seconds / (seconds * pipeline.instances),
        )
        for step in steps_among(times)
    }


def bottleneck(uses: dict[str, Use], cpu: float | None = None) -> Bottleneck | None:
    """The stage whose instances were busiest, with its queue; None where nothing was asked of any.

    Where the stages share one model, that is looked at, and the stage in it that took most of its time is
    named. Stages share the machine: when its CPU is full (`cpu`, a share), each is slow because of all, and
    the reason says so.
    """
    inner = [uses[step] for step in steps_among(uses)] if PIPELINE.name in uses else []
    busy = [use for use in uses.values() if use.requests_per_second > 0 and use not in inner]
    if not busy:
        return None
    worst = max(busy, key=lambda use: use.utilisation)
    reason = (
        f"its {worst.instances} instance{'s were' if worst.instances > 1 else ' was'} executing"
        f" {100 * worst.utilisation:.0f} % of the time, and requests waited {worst.queue_ms:.1f} ms for one"
    )
    longest = max(busy, key=lambda use: use.queue_ms)
    if longest.stage != worst.stage:
        reason += f" (longest queue: {longest.stage}, {longest.queue_ms:.1f} ms)"
    if cpu is not None and cpu >= FULL:
        reason += f"; the machine's CPU was {100 * cpu:.0f} % used, so more instances alone will not help"
    if worst.stage == PIPELINE.name and inner:
        most = max(inner, key=lambda use: use.utilisation)
        share = most.utilisation / max(worst.utilisation, 1e-9)
        return Bottleneck(most.stage, f"{share:.0%} of the time of {PIPELINE.name}: {reason}")
    return Bottleneck(worst.stage, reason)


def machine_cpu() -> tuple[float, float]:
    """CPU time of this machine since it started: busy and total, in ticks."""
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0, 0.0
    ticks = [float(field) for field in fields]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _look(model: Any) -> Look:
    def milliseconds(part: Any) -> float:
        return sum(each.ns for each in (part.compute_input, part.compute_infer, part.compute_output)) / 1e6

    stats = model.inference_stats
    counts = Statistics(stats.success.count, model.execution_count, stats.queue.ns / 1e6, milliseconds(stats))
    return Look(counts, sum(milliseconds(batch) for batch in model.batch_stats))


def _instances(client: Any) -> dict[str, int]:
    """The models that work for a page or record events, and how many instances each has."""
    ensemble = client.get_model_config(RECOMMEND.name, client_timeout=5.0).config
    names = [step.model_name for step in ensemble.ensemble_scheduling.step] or [RECOMMEND.name]
    found = {}
    for name in (*names, RECORD_EVENT.name):
        with contextlib.suppress(InferenceServerException):
            groups = client.get_model_config(name, client_timeout=5.0).config.instance_group
            found[name] = sum(group.count for group in groups) or 1
    return found


def _stage(model: str) -> str:
    """`rank` for the model ``rank_3f9a0c51d2e7``."""
    name, _, release = model.rpartition("_")
    is_release = len(release) == 12 and all(digit in "0123456789abcdef" for digit in release)
    return name if is_release else model
