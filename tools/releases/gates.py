"""Gates: whether a release is good enough to be served, judged by what was measured of it as served.

A ratio to the active release is passed by the lower end of its interval, not by its mean: a release has to
show that it is not much worse (a test of non-inferiority), and few test users show little.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from python_backend.release import MANIFEST, Release
from tools.checks import CheckFailed
from tools.config.gates import Gate, GatesConfig
from tools.evaluation.comparison import COMPARED, METRICS, QUESTION, RANKS
from tools.evaluation.evaluation import RERANK
from tools.evaluation.metrics import PAGE_METRICS, Interval, Ints, paired_ratio
from tools.releases.manifest import read_manifest

LEAST_PAIRS = 50
LEAST_PAIRED_SHARE = 0.5
"""How many test users, and what share of them, must have been asked the same of both releases."""


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one gate.

    Attributes:
        metric: the figure's name in ``[gates]``.
        candidate: the figure of the release that is judged, None where it is not known.
        active: that of the active release, None where it is not known or not needed.
        ratio: candidate ÷ active over the users that both were asked about; of coverage without an interval.
        needed: the gate in words.
        passed: whether the candidate passes it.
        note: what a person should know besides, such as why nothing could be compared.
    """

    metric: str
    candidate: float | None
    active: float | None
    ratio: Interval | None
    needed: str
    passed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of all gates of the release `candidate`, beside the release `active`, if there is one."""

    candidate: str
    active: str | None
    confidence: float
    lines: tuple[Line, ...]

    @property
    def passed(self) -> bool:
        return all(line.passed for line in self.lines)

    def table(self) -> str:
        """The lines for people, as plain text."""
        rows = [("", self.candidate, self.active or "–", f"ratio ({self.confidence:.4g} %)", "needed", "")]
        for line in self.lines:
            verdict = "passed" if line.passed else "FAILED"
            rows.append(
                (
                    line.metric,
                    _figure(line.candidate),
                    _figure(line.active),
                    _interval(line.ratio),
                    line.needed,
                    f"{verdict}: {line.note}" if line.note else verdict,
                )
            )
        if not self.lines:
            return f"release {self.candidate}: [gates] demands nothing"
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


class _NotMeasured(Exception):
    """A figure that cannot be had; the message says why."""


def judge(candidate: Path, active: Path | None, gates: GatesConfig) -> Judgement:
    """Whether the release in the folder `candidate` may take the place of the one in `active`.

    Without an active release only absolute gates count. What cannot be read or compared is a failed gate,
    with a note that says why; nothing is raised.
    """
    lines = [_judge(name, gate, candidate, active, gates) for name, gate in gates.demands.items()]
    return Judgement(
        candidate.name, None if active is None else active.name, 100 * gates.confidence, tuple(lines)
    )


def judge_release(candidate: Release, active: Release | None) -> Judgement:
    """`judge` by the gates that `candidate` was built with, the default ones where its manifest names none.

    Raises CheckFailed where those gates cannot be read.
    """
    try:
        gates = GatesConfig.model_validate(read_manifest(candidate.path).get("gates", {}))
    except ValidationError as error:
        raise CheckFailed(f"{candidate.path / MANIFEST}: gates: {error}") from error
    return judge(candidate.path, None if active is None else active.path, gates)


def _judge(metric: str, gate: Gate, candidate: Path, active: Path | None, gates: GatesConfig) -> Line:
    value, theirs, ratio, note = None, None, None, ""
    needed = [] if gate.least is None else [f"≥ {gate.least:g}"]
    if active is not None and gate.least_ratio is not None:
        needed.append(f"ratio ≥ {gate.least_ratio:g}")
    try:
        value = _measured(metric, candidate)
        passed = gate.least is None or value >= gate.least
        if active is not None and gate.least_ratio is not None:
            theirs, ratio, note = _compare(metric, candidate, active, gates)
            # Where the active release has nothing there is no ratio, and nothing to lose.
            passed &= ratio is None or ratio.low >= gate.least_ratio
    except _NotMeasured as problem:
        passed, note = not needed, str(problem)
    return Line(metric, value, theirs, ratio, ", ".join(needed) or "–", passed, note)


def _measured(metric: str, release: Path) -> float:
    """The figure `metric` of `release`, over all of its own test users."""
    if metric in PAGE_METRICS:
        return float(PAGE_METRICS[metric](_ranks(release)[RERANK]).mean())
    path = release / "report" / METRICS
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["headline"][metric])
    except FileNotFoundError as error:
        raise _NotMeasured(f"{path} is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _NotMeasured(f"{path} has no {metric} ({type(error).__name__}: {error})") from error


def _compare(
    metric: str, candidate: Path, active: Path, gates: GatesConfig
) -> tuple[float, Interval | None, str]:
    """The figure of the `active` release, the ratio to it, and a note on what was compared."""
    if metric not in PAGE_METRICS:
        ours, theirs = _measured(metric, candidate), _measured(metric, active)
        # Bootstrap samples of users hold fewer distinct items than the users themselves: no interval.
        return theirs, Interval(*3 * [ours / theirs]) if theirs else None, ""
    our_ranks, their_ranks, note = _paired(candidate, active)
    figure = PAGE_METRICS[metric]
    per_user = figure(our_ranks), figure(their_ranks)
    mean = float(per_user[1].mean())
    if not mean:
        return mean, None, note
    return mean, paired_ratio(*per_user, resamples=gates.resamples, confidence=gates.confidence), note


def _paired(candidate: Path, active: Path) -> tuple[Ints, Ints, str]:
    """Ranks of the targets of the users that both releases were asked about, and a note if some were not."""
    ours = _ranks(candidate)
    compared = _read(candidate / "report" / COMPARED) if (candidate / "report" / COMPARED).exists() else {}
    if str(compared.get("release")) == active.name and "ranks" in compared:
        if compared["ranks"].shape != ours[RERANK].shape:
            raise _NotMeasured(f"{candidate / 'report' / COMPARED} does not belong to {RANKS} beside it")
        return ours[RERANK], compared["ranks"], ""
    theirs, users = _ranks(active), len(ours[RERANK])
    if QUESTION in ours and QUESTION in theirs:
        _, our_places, their_places = np.intersect1d(ours[QUESTION], theirs[QUESTION], return_indices=True)
    else:
        our_places = their_places = np.zeros(0, dtype=np.intp)
    pairs = len(our_places)
    if pairs < max(LEAST_PAIRS, LEAST_PAIRED_SHARE * users):
        raise _NotMeasured(
            f"both releases were asked the same about {pairs} of {users} test users; build it again while"
            f" {active.name} is active, which is then asked the same questions, or use --force"
        )
    note = "" if pairs == users else f"on the {pairs} of {users} test users that both were asked about"
    return ours[RERANK][our_places], theirs[RERANK][their_places], note


def _ranks(release: Path) -> Mapping[str, Any]:
    """What ranks.npz of `release` holds."""
    path = release / "report" / RANKS
    ranks = _read(path)
    if RERANK not in ranks or not ranks[RERANK].size:
        raise _NotMeasured(f"{path} has no ranks of {RERANK}")
    if QUESTION in ranks and ranks[QUESTION].shape != ranks[RERANK].shape:
        raise _NotMeasured(f"{path} has not one {QUESTION} per rank")
    return ranks


def _read(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError as error:
        raise _NotMeasured(f"{path} is missing") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _NotMeasured(f"{path} cannot be read ({error})") from error


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _interval(ratio: Interval | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio.mean:.3f}" + ("" if ratio.low == ratio.high else f" ({ratio.low:.3f} … {ratio.high:.3f})")
