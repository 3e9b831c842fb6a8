"""merge: the lists of several retrieval channels as one list of candidates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import CANDIDATE, CANDIDATE_CHANNEL, RETRIEVAL_SCORE

from python_backend.item_index import PADDING_SCORE
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, Stage

MERGE = "merge.json"


@dataclass(frozen=True, slots=True)
class Weights:
    """What a channel's word counts: an item that it found at `rank`, from 0, gets

    ``reciprocal ÷ (constant + rank + 1) + found + closeness · log(1 + rank) + above · (score − lowest)``,

    where `lowest` is the lowest score of the channel's list; an item that it did not find gets 0.
    """

    reciprocal: float = 0.0
    found: float = 0.0
    closeness: float = 0.0
    above: float = 0.0


@dataclass(frozen=True, slots=True)
class Voice:
    """A channel among those that are merged: its `name`, its kind's `code` in `contract.FoundBy`."""

    name: str
    code: int
    weights: Weights


def words(
    candidates: Sequence[npt.NDArray[np.int32]],
    scores: Sequence[npt.NDArray[np.float32]],
    voices: Sequence[Voice],
    constant: float,
) -> list[npt.NDArray[np.float32]]:
    """What each channel says of each of its items, float32 ``[B, quota]`` per channel.

    `candidates` ``[B, quota]``, best first, and `scores` are the channels' lists in the order of `voices`.
    """
    said = []
    for found, score, voice in zip(candidates, scores, voices, strict=True):
        weights, rank = voice.weights, np.arange(found.shape[1], dtype=np.float32)
        value = (
            weights.reciprocal / (constant + rank + 1) + weights.found + weights.closeness * np.log1p(rank)
        )
        said.append((value + weights.above * above_lowest(found, score)).astype(np.float32))
    return said


def above_lowest(
    candidates: npt.NDArray[np.int32], scores: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """`scores` ``[B, quota]`` minus the lowest of their row; 0 where there is no item."""
    there = candidates > 0
    lowest = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    return np.where(there, scores - np.where(np.isfinite(lowest), lowest, 0), 0).astype(np.float32)


class Merge(Stage):
    """Adds up what the channels say of each item and keeps the best K.

    With ``reciprocal`` alone that is weighted reciprocal rank fusion (Cormack et al. 2009,
    https://doi.org/10.1145/1571941.1572114); the other weights make it a log-linear model of ranks and
    scores, which tools/channels/merging.py fits.

    Takes ``candidate_<channel>`` and ``retrieval_score_<channel>`` ``[B, quota]`` of each. Gives `candidate`
    int32 ``[B, K]``, best first and each item once, `retrieval_score` float32, the sum, as a log probability
    over the row's candidates, and `candidate_channel` int32: the kind of the channel whose word counted most.
    """

    name = "merge"

    def __init__(self, voices: Sequence[Voice], constant: float, candidates: int) -> None:
        self.voices, self.constant, self._candidates = tuple(voices), constant, candidates
        self._codes = np.array([voice.code for voice in voices], dtype=np.int32)

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """Raises what `open` raises."""
        return cls.open(release.artifacts, release.sizes.candidates)

    @classmethod
    def open(cls, folder: Path, candidates: int) -> Self:
        """The merge in `folder`, giving so many `candidates`.

        Raises FileNotFoundError, or ValueError where its file cannot be used.
        """
        path = folder / MERGE
        content = json.loads(path.read_text(encoding="utf-8"))
        try:
            voices = [
                Voice(each["name"], each["code"], Weights(**each["weights"])) for each in content["voices"]
            ]
            return cls(voices, content["constant"], candidates)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a merge's file ({error})") from error

    def with_voices(self, voices: Sequence[Voice]) -> Merge:
        """The same with other weights."""
        return Merge(voices, self.constant, self._candidates)

    def write(self, folder: Path) -> None:
        """Write what `open` reads into `folder`, which is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"constant": self.constant, "voices": [asdict(voice) for voice in self.voices]}
        (folder / MERGE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        candidates = [inputs[f"{CANDIDATE.name}_{voice.name}"] for voice in self.voices]
        scores = [inputs[f"{RETRIEVAL_SCORE.name}_{voice.name}"] for voice in self.voices]
        said = words(candidates, scores, self.voices, self.constant)
        items = np.concatenate(candidates, axis=1)
        word = np.concatenate(said, axis=1)
        voice = np.repeat(np.arange(len(said)), [each.shape[1] for each in said])
        # An item's places stand together, those of the earlier channel first.
        order = np.argsort(items, axis=1, kind="stable")
        items, word, voice = (
            np.take_along_axis(items, order, 1),
            np.take_along_axis(word, order, 1),
            voice[order],
        )
        first = np.ones(items.shape, dtype=bool)
        first[:, 1:] = items[:, 1:] != items[:, :-1]
        rows, width = items.shape
        begins = np.flatnonzero(first)
        total = np.full(items.size, -np.inf, dtype=np.float32)
        total[begins] = np.add.reduceat(word.ravel(), begins)
        loudest = np.zeros(items.size, dtype=np.int32)
        # Not the sum's share but how far a channel puts the item above those that it did not find.
        loudest[begins] = self._loudest(word.ravel(), voice.ravel(), begins)
        value = np.where(items == 0, -np.inf, total.reshape(rows, width))
        best = np.argsort(-value, axis=1, kind="stable")[:, : self._candidates]
        value = np.take_along_axis(value, best, axis=1)
        there = np.isfinite(value)
        chosen = np.where(there, np.take_along_axis(items, best, axis=1), 0).astype(np.int32)
        channel = np.where(there, np.take_along_axis(loudest.reshape(rows, width), best, axis=1), 0)
        score = np.where(there, _log_softmax(value), PADDING_SCORE).astype(np.float32)
        missing = self._candidates - chosen.shape[1]
        if missing > 0:
            pads = ((0, 0), (0, missing))
            chosen, channel = np.pad(chosen, pads), np.pad(channel, pads)
            score = np.pad(score, pads, constant_values=PADDING_SCORE)
        return {
            CANDIDATE.name: chosen,
            RETRIEVAL_SCORE.name: score,
            CANDIDATE_CHANNEL.name: channel.astype(np.int32),
        }

    def _loudest(
        self, word: npt.NDArray[np.float32], voice: npt.NDArray[np.int64], begins: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int32]:
        """The code of the voice with the highest word in each stretch that starts at `begins`."""
        highest = np.repeat(np.maximum.reduceat(word, begins), np.diff(np.append(begins, len(word))))
        # Of equals the earlier channel.
        place = np.where(word == highest, np.arange(len(word)), len(word))
        return self._codes[voice[np.minimum.reduceat(place, begins)]]


def _log_softmax(value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Over the last axis, of rows that may hold nothing but -inf."""
    highest = value.max(axis=1, keepdims=True, initial=-np.inf)
    centred = value - np.where(np.isfinite(highest), highest, 0)
    total = np.exp(centred).sum(axis=1, keepdims=True)
    return np.asarray(centred - np.log(np.maximum(total, 1e-30)), dtype=np.float32)
