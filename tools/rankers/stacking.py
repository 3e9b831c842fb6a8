"""How much each of several rankers counts, fitted to what came next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_softmax, softmax

from tools.training.candidates import RankingExamples, rows_of

Floats = npt.NDArray[np.float64]

RIDGE = 1e-3
"""Pulls weights to those of the average, a little: what examples leave open is shared evenly."""


@dataclass(frozen=True)
class Stacking:
    """The logit of several rankers together: their logits times `weights` float64 ``[R]``, plus `bias`."""

    weights: Floats
    bias: float


def held_out_users(
    examples: RankingExamples, share: float, seed: int
) -> tuple[RankingExamples, RankingExamples]:
    """`examples` of most users, and those of about `share` of the users, drawn at random.

    Rankers are trained on the first, `stack` is fitted on the second: a ranker that is asked about examples
    which it has learned by heart would seem better than it is.
    """
    users = np.unique(examples.users)
    drawn = np.random.default_rng(seed).permutation(users)[: round(share * len(users))]
    held = np.isin(examples.users, drawn)
    return rows_of(examples, ~held), rows_of(examples, held)


def stack(logits: Sequence[npt.NDArray[np.float32]], examples: RankingExamples) -> Stacking:
    """Weights of rankers whose `logits`, each ``[n, K]``, are for `examples` they were not trained on.

    The weights make the next item as likely as possible among its candidates, by a softmax (stacked
    generalisation, Wolpert 1992, with weights that are not negative, as in Breiman 1996). A softmax knows
    no bias; that is the one which makes the sigmoid's mean the share of candidates that were clicked.
    Deterministic: L-BFGS-B from the average. Where no next item was retrieved the weights are those of the
    average. Raises ValueError without any ranker, or where shapes differ.
    """
    if not logits or any(part.shape != examples.candidates.shape for part in logits):
        shapes = [part.shape for part in logits]
        raise ValueError(f"logits are {shapes}; there must be some, each {examples.candidates.shape}")
    there = examples.candidates != 0
    columns = np.stack(logits).astype(np.float64)
    average = np.full(len(columns), 1 / len(columns))
    rows = np.flatnonzero(examples.targets >= 0)
    weights = average
    if len(rows):
        known, asked = there[rows], np.where(there[rows], columns[:, rows], 0.0)
        wanted = examples.targets[rows]
        clicked = asked[:, np.arange(len(rows)), wanted].sum(axis=1)

        def loss(weights: Floats) -> tuple[float, Floats]:
            total = np.where(known, np.tensordot(weights, asked, axes=1), -np.inf)
            value = -log_softmax(total, axis=1)[np.arange(len(rows)), wanted].sum()
            gradient = np.einsum("nk,rnk->r", softmax(total, axis=1), asked) - clicked
            apart = RIDGE * len(rows) * (weights - average)
            return float(value + 0.5 * apart @ (weights - average)), gradient + apart

        bounds = [(0, None)] * len(columns)
        weights = np.asarray(minimize(loss, average, jac=True, method="L-BFGS-B", bounds=bounds).x)
    return Stacking(weights, _bias(np.tensordot(weights, columns, axes=1)[there], len(rows)))


def _bias(logits: Floats, clicks: int) -> float:
    """What to add to `logits` float64 ``[n]`` so that their sigmoids add up to the number of `clicks`."""
    if not 0 < clicks < len(logits):
        return 0.0
    reach = float(np.abs(logits).max()) + 50.0
    return float(brentq(lambda bias: float(expit(logits + bias).sum()) - clicks, -reach, reach))
