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
from python_backend.merge_loop import compile_loop
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
        self._above = np.array([voice.weights.above for voice in voices], dtype=np.float32)
        self._places_of: dict[tuple[int, ...], tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = {}
        self._merge = compile_loop()

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
        lists = [inputs[f"{CANDIDATE.name}_{voice.name}"] for voice in self.voices]
        scores = [inputs[f"{RETRIEVAL_SCORE.name}_{voice.name}"] for voice in self.voices]
        ends, of_rank = self._places(tuple(found.shape[1] for found in lists))
        shape = len(lists[0]), self._candidates
        candidate, channel = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        score = np.full(shape, PADDING_SCORE, np.float32)
        items = np.concatenate(lists, axis=1, dtype=np.int32)
        said = np.concatenate(scores, axis=1, dtype=np.float32)
        self._merge(items, said, ends, of_rank, self._above, self._codes, candidate, score, channel)
        return {CANDIDATE.name: candidate, RETRIEVAL_SCORE.name: score, CANDIDATE_CHANNEL.name: channel}

    def _places(self, quotas: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Where each channel's list ends, and what its word is at each place but for the scores."""
        if quotas not in self._places_of:
            words = []
            for quota, voice in zip(quotas, self.voices, strict=True):
                weights, rank = voice.weights, np.arange(quota, dtype=np.float32)
                place = weights.reciprocal / (self.constant + rank + 1)
                words.append(place + weights.found + weights.closeness * np.log1p(rank))
            self._places_of[quotas] = np.cumsum(quotas), np.concatenate(words, dtype=np.float32)
        return self._places_of[quotas]
