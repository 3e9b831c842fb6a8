"""Fitting what the merge of channels makes of their lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor
from tritonrec_client.contract import CANDIDATE, RETRIEVAL_SCORE

from python_backend.stages.merge import Merge, Weights, above_lowest
from tools.channels.merged import ChannelLists

EXAMPLES = 8000
"""Moments that the weights are fitted on. There are only three weights for each channel, but channels say
nearly the same: with three draws of 3,000 the merged order's NDCG@10 on MovieLens' validation items was 0.150
to 0.156, with three draws of 8,000 it was 0.152 to 0.154."""
STEPS = 60
LEAST = 1e-3
"""The least that reciprocal ranks are multiplied by: below 0 their order would be turned round."""
PENALTY = 1e-3
"""Times the squares of the weights: of two channels that say the same, each gets a half."""


def fit_merge(start: Merge, found: Sequence[ChannelLists], *, learned: bool) -> Merge:
    """`start` with weights that make the items which came next as likely as can be.

    The sum of the channels' words is taken for a logit over all items that any channel `found`; the loss is
    cross-entropy, over the moments whose next item is among them, and L-BFGS minimises it. Where nothing is
    to be `learned` but one number, all reciprocal ranks are multiplied by it: their order stays, and the
    scores become log probabilities that a ranker can rest on. `start` as it is where no next item was found.
    """
    drawn = _draw(found)
    wanted = np.concatenate([part.wanted for part in drawn])
    names = [voice.name for voice in start.voices]
    candidates, scores = (
        [np.concatenate([part.lists[f"{tensor}_{name}"] for part in drawn]) for name in names]
        for tensor in (CANDIDATE.name, RETRIEVAL_SCORE.name)
    )
    items = np.concatenate(candidates, axis=1)
    voice = torch.from_numpy(np.repeat(np.arange(len(names)), [each.shape[1] for each in candidates]))
    signs = torch.from_numpy(_signs(start, candidates, scores, learned))
    first, place = _first_places(items, wanted)
    known = place >= 0
    if not known.any():
        return start
    signs, target = signs[torch.from_numpy(known)], torch.from_numpy(place[known])
    segment, padding = torch.from_numpy(first[known]), torch.from_numpy(items[known] == 0)
    # An item's words are added up at the first of its places; the others stand for nothing.
    absent = torch.ones(segment.shape).scatter(1, segment, 0.0).bool() | padding
    weights = torch.zeros(len(names) if learned else 1, signs.shape[-1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        own = weights[voice] if learned else weights.expand(len(voice), -1)
        word = torch.einsum("nps,ps->np", signs, own)
        total = torch.zeros(segment.shape).scatter_add(1, segment, word).masked_fill(absent, -torch.inf)
        value = functional.cross_entropy(total, target) + PENALTY * (weights**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    fitted = weights.detach().numpy().astype(float).round(5)
    voices = [
        replace(
            each,
            weights=Weights(found=row[0], closeness=row[1], above=row[2])
            if learned
            else Weights(reciprocal=each.weights.reciprocal * (start.constant + 1) * max(row[0], LEAST)),
        )
        for each, row in zip(
            start.voices, np.broadcast_to(fitted, (len(names), fitted.shape[1])), strict=True
        )
    ]
    return start.with_voices(voices)


def _draw(found: Sequence[ChannelLists]) -> list[ChannelLists]:
    """At most EXAMPLES of the moments, always the same ones."""
    ends = np.cumsum([len(part.wanted) for part in found])
    chosen = np.zeros(ends[-1], dtype=bool)
    chosen[np.random.default_rng(0).permutation(len(chosen))[:EXAMPLES]] = True
    return [part.rows_of(rows) for part, rows in zip(found, np.split(chosen, ends[:-1]), strict=True)]


def _signs(
    start: Merge,
    candidates: Sequence[NDArray[np.int32]],
    scores: Sequence[NDArray[np.float32]],
    learned: bool,
) -> NDArray[np.float32]:
    """What the weights are multiplied with, float32 ``[n, places of all channels, weights]``."""
    parts = []
    for voice, found, score in zip(start.voices, candidates, scores, strict=True):
        rank = np.broadcast_to(np.arange(found.shape[1], dtype=np.float32), found.shape)
        if learned:
            parts.append(np.stack([np.ones_like(rank), np.log1p(rank), above_lowest(found, score)], axis=-1))
        else:
            # In units of the first place, so that the number is about 1 and not hundreds.
            share = (start.constant + 1) / (start.constant + rank + 1)
            parts.append((voice.weights.reciprocal * share)[..., None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def _first_places(
    items: NDArray[np.int32], wanted: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each place of `items` ``[n, W]`` the first place of the same item; for each row that of `wanted`.

    -1 where no channel found that.
    """
    segment = np.empty(items.shape, dtype=np.int64)
    for row, found in enumerate(items):
        _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
        segment[row] = first[inverse]
    hit = items == wanted[:, None]
    return segment, np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
