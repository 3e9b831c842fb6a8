"""What the lists of channels and rankers are worth: a row of figures for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from tritonrec_client.contract import CANDIDATE, RANK_SCORE, RETRIEVAL_SCORE

from python_backend.plan import Plan
from tools.evaluation import metrics
from tools.evaluation.calibration import calibration
from tools.evaluation.click_metrics import accuracy, auc, log_loss
from tools.evaluation.metrics import Floats, Ints, Items
from tools.releases.in_process import reordered

Kind = Literal["channel", "merge", "ranker", "blend"]
Link = Literal["each", "list"]
"""What makes a ranker's score a probability: its sigmoid, each candidate by itself, or the list's softmax."""

PLACES = 20
"""How many places the figures beyond accuracy look at."""

_CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000)

ACCURACY: dict[str, Callable[[Ints], Floats]] = {
    "ndcg_10": lambda ranks: metrics.ndcg(ranks, 10),
    "dcg_10": lambda ranks: metrics.dcg(ranks, 10),
    "hit_rate_10": lambda ranks: metrics.hit_rate(ranks, 10),
    "mrr_10": lambda ranks: metrics.mrr(ranks, 10),
    "precision_10": lambda ranks: metrics.precision(ranks, 10),
    "recall_10": lambda ranks: metrics.recall(ranks, 10),
    "f1_10": lambda ranks: metrics.f1(ranks, 10),
    "recall_100": lambda ranks: metrics.recall(ranks, 100),
    "recall_500": lambda ranks: metrics.recall(ranks, 500),
}
"""The figures of accuracy per user, from the ranks of the targets."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What all models are judged by.

    Attributes:
        targets: int32 ``[U]``, each user's held-out item, 0 for a user without one.
        popularity: int64 ``[I + 1]``, events per item before the targets.
        item_vectors: float ``[I + 1, d]``, by which the diversity of lists is measured.
    """

    targets: Items
    popularity: NDArray[np.int64]
    item_vectors: NDArray[Any]

    @property
    def n_items(self) -> int:
        return len(self.popularity) - 1


@dataclass(frozen=True, eq=False)
class Answer:
    """One model's answers: its candidates int32 ``[U, K]`` and their scores, with `link` for rankers.

    `model` is its Triton model's name without the release; a channel and a ranker may be called the same by
    `name`. `candidates` are best first, except for rankers, whose `scores` say the order.
    """

    model: str
    name: str
    kind: Kind
    candidates: Items
    scores: NDArray[np.float32]
    link: Link | None = None

    @property
    def lists(self) -> Items:
        """The candidates, best first."""
        if self.kind in ("channel", "merge"):
            return self.candidates
        return reordered(self.candidates, self.scores)

    @property
    def probabilities(self) -> Floats | None:
        """How likely each candidate is what comes next, float64 ``[U, K]``; None without a link."""
        if self.link is None:
            return None
        scores = self.scores.astype(np.float64)
        return np.asarray(expit(scores) if self.link == "each" else softmax(scores, axis=1))


def row_of(answer: Answer, ground: Ground) -> dict[str, Any]:
    """The figures of one model; an interval is ``{"mean", "low", "high"}`` at 95 %, None does not exist."""
    lists = answer.lists
    ranks, width = metrics.ranks(lists, ground.targets), lists.shape[1]
    places = min(PLACES, width)
    bias = metrics.popularity_bias(lists, places, ground.popularity)
    row: dict[str, Any] = {"name": answer.name, "kind": answer.kind, "list_length": width}
    for key, figure in ACCURACY.items():
        reach = int(key.rsplit("_", 1)[1])
        row[key] = asdict(metrics.mean_interval(figure(ranks))) if width >= reach else None
    points = [k for k in _CURVE if k <= width]
    row["recall_curve"] = {"k": points, "recall": [float(metrics.recall(ranks, k).mean()) for k in points]}
    row |= {
        "coverage": metrics.coverage(lists, places, ground.n_items),
        "novelty": float(np.nanmean(metrics.novelty(lists, places, ground.popularity))),
        "popularity_percentile": bias.recommended,
        "exposure_gini": bias.gini,
        "diversity": float(np.nanmean(metrics.intra_list_diversity(lists, places, ground.item_vectors))),
    }
    probabilities = answer.probabilities
    row["clicks"] = None if probabilities is None else clicks_of(answer.candidates, probabilities, ground)
    return row


def clicks_of(candidates: Items, probabilities: Floats, ground: Ground) -> dict[str, float]:
    """Figures of stated probabilities ``[U, K]`` over every candidate of every user with a target.

    Beside them what the base rate, stated of every candidate alike, would get: with one click among hundreds
    of candidates its accuracy is near 1.
    """
    shown = (candidates > 0) & (ground.targets > 0)[:, None]
    clicked = (candidates == ground.targets[:, None])[shown].astype(np.float64)
    stated = np.clip(probabilities[shown], 0.0, 1.0)
    rate = float(clicked.mean())
    return {
        "pairs": int(shown.sum()),
        "auc": auc(stated, clicked),
        "accuracy": accuracy(stated, clicked),
        "log_loss": log_loss(stated, clicked),
        "calibration_error": calibration(stated, clicked).error,
        "base_rate": rate,
        "base_accuracy": max(rate, 1 - rate),
        "base_log_loss": log_loss(np.full(len(clicked), rate), clicked),
    }


def differences(
    ours: Items, others: Mapping[str, Items], targets: Items, figure: str
) -> dict[str, dict[str, float]]:
    """`figure` of the lists `ours` minus that of each of the `others` by name, with paired 95 % intervals."""
    per_user = ACCURACY[figure]
    mine: Ints = metrics.ranks(ours, targets)
    return {
        name: asdict(metrics.paired_bootstrap(per_user(mine), per_user(metrics.ranks(lists, targets))))
        for name, lists in others.items()
    }


def answers_of(plan: Plan, tensors: Mapping[str, NDArray[Any]], links: Mapping[str, Link]) -> list[Answer]:
    """The answers of a release's channels, merge, rankers and blend, from all `tensors` on the way.

    `links` say of each ranker's model, such as ``rank_dnn``, what makes its scores probabilities.
    """
    kinds: dict[str, Kind] = {"retrieve": "channel", "merge": "merge", "rank": "ranker", "blend": "blend"}
    answers = []
    for step in plan.steps:
        if step.stage not in kinds:
            continue
        names = {port.tensor: port.name for port in (*step.inputs, *step.outputs)}
        score = names[RETRIEVAL_SCORE.name if step.stage in ("retrieve", "merge") else RANK_SCORE.name]
        answers.append(
            Answer(
                model=step.model,
                name=step.model.removeprefix("retrieve_").removeprefix("rank_"),
                kind=kinds[step.stage],
                candidates=tensors[names[CANDIDATE.name]],
                scores=tensors[score],
                link=links.get(step.model),
            )
        )
    return answers
