"""Each stage on the device beside float32 on the processor: the same candidates, the same scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tritonrec_client.contract import CANDIDATE, RANK_SCORE, RETRIEVAL_SCORE

from python_backend.gpu.programs import RANK, load_program
from python_backend.gpu.stage import RetrieveAndRank
from python_backend.item_index import PADDING_SCORE
from python_backend.release import Release
from tools.gpu.rows import Goal, Row

NAME = "parity"
NEAR = 1e-3
REFERENCE = "reference"
"""The folder of a made-up release that holds the ranker's program in float32."""

Arrays = Mapping[str, NDArray[Any]]

ROWS = {
    "sets": Row(
        NAME, "retrieve: candidates that float32 on the CPU has, ties aside", goal=Goal(1.0, words="all")
    ),
    "retrieve": Row(NAME, "retrieve: scores, relative difference", goal=Goal(NEAR, at_most=True)),
    "rank": Row(NAME, "rank: scores, relative difference", goal=Goal(NEAR, at_most=True)),
    "batch": Row(NAME, "a batch beside its rows alone: scores, relative", goal=Goal(NEAR, at_most=True)),
}


def float_ranker(release: Release) -> Callable[[Arrays], NDArray[np.float32]] | None:
    """The release's ranker in float32 on the processor: a made-up one's program, or the ONNX graph.

    None where ONNX Runtime would be needed and is not installed.
    """
    path = release.path / REFERENCE / RANK
    if path.is_file():
        program = load_program(path, torch.device("cpu"))

        def by_program(inputs: Arrays) -> NDArray[np.float32]:
            names = ("user_features", "history", CANDIDATE.name, RETRIEVAL_SCORE.name)
            with torch.inference_mode():
                scores = program(**{name: torch.from_numpy(inputs[name]) for name in names})
            return np.asarray(scores.numpy())

        return by_program
    try:
        from python_backend.stages.rank import Rank
    except ModuleNotFoundError:
        return None
    rank = Rank.load(release, {})
    return lambda inputs: rank(inputs)[RANK_SCORE.name]


class Reference:
    """The stages of `release` on the processor, in float32. Raises what `RetrieveAndRank.load` raises."""

    def __init__(self, release: Release) -> None:
        self._stage = RetrieveAndRank.load(release, {"device": "cpu"})
        self._rank = float_ranker(release)

    def compare(self, stage: RetrieveAndRank, inputs: Arrays) -> dict[str, float]:
        """The figures of `ROWS` for the rows of `inputs`, by key; none for what has no reference."""
        found, wanted = stage(inputs), self._stage(inputs)
        figures = {
            "sets": same_sets(found, wanted),
            "retrieve": difference(found[RETRIEVAL_SCORE.name], wanted[RETRIEVAL_SCORE.name]),
        }
        if self._rank is not None:
            # Of the candidates that were found: another one is right if its retrieval score is.
            figures["rank"] = difference(found[RANK_SCORE.name], self._rank({**inputs, **found}))
        rows = range(len(inputs["history"]))
        alone = [stage({name: array[row : row + 1] for name, array in inputs.items()}) for row in rows]
        joined = {name: np.concatenate([each[name] for each in alone]) for name in alone[0]}
        figures["batch"] = score_difference(joined, found)
        return figures


def difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The greatest difference of two scores relative to the score, or to 1 where that is less."""
    return float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max(initial=0))


def score_difference(found: Arrays, wanted: Arrays) -> float:
    """The greatest `difference` of two answers' scores: retrieval's by place, the ranker's by candidate.

    Kernels for other batch sizes add up in another order, so near ties stand the other way round: places then
    hold other candidates, whose retrieval scores are the same and whose rank scores are not. Infinite where
    the lists hold other candidates, ties with the last aside.
    """
    if same_sets(found, wanted) < 1:
        return math.inf
    worst = difference(found[RETRIEVAL_SCORE.name], wanted[RETRIEVAL_SCORE.name])
    for row in range(len(found[CANDIDATE.name])):
        _, here, there = np.intersect1d(
            found[CANDIDATE.name][row], wanted[CANDIDATE.name][row], return_indices=True
        )
        scores = found[RANK_SCORE.name][row][here], wanted[RANK_SCORE.name][row][there]
        worst = max(worst, difference(*scores))
    return worst


def same_sets(found: Arrays, wanted: Arrays) -> float:
    """The share of candidates that the other list has too, or that tie with its last; the least of a row."""
    shares = []
    for row in range(len(found[CANDIDATE.name])):
        ours, theirs = found[CANDIDATE.name][row], wanted[CANDIDATE.name][row]
        scores, last = found[RETRIEVAL_SCORE.name][row], _last(wanted[RETRIEVAL_SCORE.name][row])
        tied = scores <= last + NEAR * max(1.0, abs(last))
        padding = (ours == 0) & (theirs == 0)
        twice = len(np.unique(ours[ours != 0])) < np.count_nonzero(ours)
        shares.append(0.0 if twice else float((np.isin(ours, theirs) | tied | padding).mean()))
    return min(shares)


def _last(scores: NDArray[np.float32]) -> float:
    """The score of the last candidate that is one."""
    return float(scores[scores > PADDING_SCORE].min(initial=np.inf))
