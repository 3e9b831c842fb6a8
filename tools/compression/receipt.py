"""The receipt: what each variant of the ranker costs and saves, and which one is worth it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from python_backend.graph import Graph
from tools.compression.requests import inputs_of
from tools.config.build import ConfigError
from tools.evaluation.metrics import Floats, Interval, Ints, mean_interval, ndcg, paired_ratio, recall
from tools.training.candidates import RankingExamples
from tools.training.features import Features
from tools.training.rank_training import target_places

FORMAT = 1
AT_ONCE = 4
"""Users of the larger of the two requests that are timed: as many as the stage gives the graph at once."""

ELSEWHERE = {
    f"TensorRT, {precision}": "python tools/bench_gpu.py" for precision in ("FP16", "FP8", "weight-only INT8")
}
"""Forms that need another machine, and the command that measures them there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One variant, measured.

    Attributes:
        variant: its name in ``[compress]``.
        bytes: of the graph and what lies beside it.
        alone_ms, together_ms: milliseconds a user, ranked alone and four at once; the median of all repeats.
        alone_speed, together_speed: how many times faster than the full model; the median of the repeats'
            ratios, with the quartiles as low and high.
        ndcg_10, recall_500: over the users, with their 95 % intervals.
        ndcg_ratio, recall_ratio: to the full model's on the same users, paired.
    """

    variant: str
    bytes: int
    alone_ms: float
    together_ms: float
    alone_speed: Interval
    together_speed: Interval
    ndcg_10: Interval
    recall_500: Interval
    ndcg_ratio: Interval
    recall_ratio: Interval


@dataclass(frozen=True, slots=True)
class Receipt:
    """The rows of all variants, the full model's first, and the one that is `chosen` by the rule."""

    rows: tuple[Row, ...]
    chosen: str
    least_ratio: float
    measured_on: str
    users: int
    repeats: int
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """The same as plain, JSON-ready values."""
        return {"format": FORMAT, **asdict(self), "elsewhere": ELSEWHERE}


def read_receipt(path: Path) -> dict[str, Any]:
    """What `Receipt.to_dict` gave, from the file at `path`. Raises ConfigError where there is no receipt."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError([f"--receipt: {path} cannot be read: {error}"]) from error
    missing = [field.name for field in fields(Receipt) if field.name not in content]
    if found != FORMAT or missing:
        lacking = f" and lacks {', '.join(missing)}" if missing else ""
        allowed = f"format {FORMAT} of tools/compress.py"
        raise ConfigError([f"--receipt: {path} has format {found!r}{lacking}; allowed: {allowed}"])
    return content


def measure(
    graphs: Mapping[str, Path],
    examples: RankingExamples,
    features: Features,
    *,
    least_ratio: float,
    measured_on: str,
    repeats: int,
    machine: str,
) -> Receipt:
    """Measure the `graphs` by variant, of which the first is the full model, on `examples` held out.

    Raises ValueError where there are no examples.
    """
    if not len(examples.users):
        raise ValueError("there are no requests to measure on")
    loaded = {variant: Graph(path) for variant, path in graphs.items()}
    places = {variant: _places(graph, examples, features) for variant, graph in loaded.items()}
    alone = interleaved_times(loaded, _samples(examples, features, 1), repeats)
    together = interleaved_times(loaded, _samples(examples, features, AT_ONCE), repeats)
    full = next(iter(graphs))
    rows = tuple(
        Row(
            variant=variant,
            bytes=graph_bytes(path),
            alone_ms=1000 * float(np.median(alone[variant])),
            together_ms=1000 * float(np.median(together[variant])) / AT_ONCE,
            alone_speed=_speed(alone[full], alone[variant]),
            together_speed=_speed(together[full], together[variant]),
            ndcg_10=mean_interval(ndcg(places[variant], 10)),
            recall_500=mean_interval(recall(places[variant], 500)),
            ndcg_ratio=paired_ratio(ndcg(places[variant], 10), ndcg(places[full], 10)),
            recall_ratio=paired_ratio(recall(places[variant], 500), recall(places[full], 500)),
        )
        for variant, path in graphs.items()
    )
    chosen = choose(rows, least_ratio).variant
    return Receipt(rows, chosen, least_ratio, measured_on, len(examples.users), repeats, machine)


def choose(rows: Sequence[Row], least_ratio: float) -> Row:
    """The cheapest row, by the time of four users at once, whose quality is not measurably worse.

    Its NDCG@10 ÷ that of the full model, the first row, may not lie below 1 with its whole interval, and the
    interval's lower end must reach `least_ratio`: of few users nearly nothing is measurable. It must
    be faster than the full model by more than the quartiles of the repeats. The full model where none is.
    """
    full, *others = rows
    fit = [
        row
        for row in others
        if row.ndcg_ratio.high >= 1 and row.ndcg_ratio.low >= least_ratio and row.together_speed.low > 1
    ]
    return min(fit, key=lambda row: row.together_ms, default=full)


def interleaved_times(
    graphs: Mapping[str, Graph], samples: Sequence[Mapping[str, NDArray[Any]]], repeats: int
) -> dict[str, Floats]:
    """Seconds ``[repeats]`` that each of `graphs` takes for the same requests, in an order drawn each time.

    It is the CPU time of the one thread that runs the graph: on a quiet machine that is what it takes, and
    on another one it does not count the time in which others had the core.
    """
    random = np.random.default_rng(0)
    times = {name: np.zeros(repeats) for name in graphs}
    names = list(graphs)
    for graph in graphs.values():
        graph(samples[0])
    for repeat in range(repeats):
        inputs = samples[repeat % len(samples)]
        for place in random.permutation(len(names)):
            begin = time.thread_time()
            graphs[names[place]](inputs)
            times[names[place]][repeat] = time.thread_time() - begin
    return times


def graph_bytes(path: Path) -> int:
    """The size of the graph at `path` and of its constants beside it."""
    files = (path, path.with_suffix(".weights"))
    return sum(file.stat().st_size for file in files if file.exists())


def _places(graph: Graph, examples: RankingExamples, features: Features) -> Ints:
    scores = [graph(inputs)["rank_score"] for inputs in inputs_of(examples, features, AT_ONCE)]
    return target_places(np.concatenate(scores), examples)


def _samples(examples: RankingExamples, features: Features, rows: int) -> list[dict[str, NDArray[Any]]]:
    """Requests of `rows` users each, all of the same size."""
    samples = list(inputs_of(examples, features, rows, most=64 * rows))
    return [inputs for inputs in samples if len(inputs["candidate"]) == rows] or samples


def _speed(full: Floats, variant: Floats) -> Interval:
    ratios = full / np.maximum(variant, 1e-9)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return Interval(float(middle), float(low), float(high))
