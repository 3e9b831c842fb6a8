"""Training a pointwise ranker: every candidate by itself, clicked or not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor
from tritonrec_client.contract import Sizes

from tools.config.rankers import PointwiseRanker
from tools.evaluation.metrics import ndcg
from tools.rankers.attention import AttentionRanker
from tools.rankers.calibration import logistic_regression
from tools.rankers.deep import DeepAndCross, Dnn
from tools.rankers.factorisation import NeuMF
from tools.rankers.logistic import Logistic
from tools.rankers.pointwise import PointwiseGraph, PointwiseModel
from tools.rankers.recurrent import Lstm
from tools.rankers.sampling import draw_places
from tools.training.candidates import PADDING_SCORE, RankingExamples
from tools.training.cold_start import warm_up_items
from tools.training.export import export_graph
from tools.training.features import Features
from tools.training.optimisation import Optimisation
from tools.training.rank_training import target_places
from tools.training.retriever import Progress

MODELS: dict[str, type[PointwiseModel]] = {
    "logistic": Logistic,
    "dnn": Dnn,
    "dcn_v2": DeepAndCross,
    "target_attention": AttentionRanker,
    "neumf": NeuMF,
    "lstm": Lstm,
}
"""The class of each model that a section of [[rankers]] can name."""

CALIBRATED_ON = 2000
"""So many examples say where training starts; three numbers need no more."""


@dataclass(frozen=True)
class FittedRanker:
    """A trained ranker; `curve` has a row of figures for each epoch."""

    model: PointwiseModel
    features: Features
    curve: list[dict[str, float]]

    def write(self, folder: Path, sizes: Sizes) -> None:
        """Write ``rank.onnx`` into `folder`; ``sizes.candidates`` is how many candidates it will be given.

        Raises GraphMismatch where the graph does not answer like the model.
        """
        export_graph(PointwiseGraph(self.model), "rank", self.features, sizes, folder / "rank.onnx")

    def warm_up(self, cold: NDArray[np.bool_], popularity: NDArray[np.int64]) -> None:
        """Give the items in `cold` vectors that suit their features; see `warm_up_items`."""
        warm_up_items(self.model, cold, popularity)

    def logits(self, examples: RankingExamples) -> NDArray[np.float32]:
        """What the ranker says of all `examples`, float32 ``[n, K]``, PADDING_SCORE for padding."""
        return pointwise_logits(self.model, examples, self.features)

    def probabilities(self, examples: RankingExamples) -> NDArray[np.float32]:
        """How likely each candidate is what comes next, float32 ``[n, K]``, 0 for padding.

        Probabilities over all candidates, each by itself: those of a row need not add up to 1.
        """
        return expit(self.logits(examples))


def fit_ranker(
    config: PointwiseRanker,
    examples: RankingExamples,
    features: Features,
    *,
    history: int,
    seed: int,
    validation: RankingExamples | None = None,
    progress: Progress = lambda done, total, text: None,
) -> FittedRanker:
    """Train the model that `config` names with binary cross-entropy on the candidates of `examples`.

    The candidate that came next was clicked, all others were not; examples whose next item was not retrieved
    say that none was. Of an example's candidates each step looks at ``config.negatives`` and the clicked one;
    `draw_places` says how the odds are put right. Training starts from the retrieval score, made a
    probability by logistic regression. `validation` is only measured. The same seed gives the same ranker.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model: PointwiseModel = MODELS[config.model](config, features, history)  # type: ignore[call-arg]
    _calibrate(model, examples, random)
    batches = math.ceil(len(examples.users) / config.batch)
    optimisation = Optimisation(
        model.parameters(),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        steps=batches * config.epochs,
    )
    curve = []
    for epoch in range(1, config.epochs + 1 if batches else 1):
        model.train()
        losses = []
        order = random.permutation(len(examples.users))
        for begin in range(0, len(order), config.batch):
            rows = order[begin : begin + config.batch]
            losses.append(optimisation.step(_loss(model, examples, features, rows, config.negatives, random)))
        row = {"epoch": float(epoch), "loss": float(np.mean(losses))}
        if validation is not None:
            logits = pointwise_logits(model, validation, features)
            row["validation_loss"] = log_loss(logits, validation)
            row["validation_ndcg_10"] = float(ndcg(target_places(logits, validation), 10).mean())
        curve.append(row)
        text = "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch")
        progress(epoch, config.epochs, text)
    return FittedRanker(model.eval(), features, curve)


@torch.no_grad()
def _calibrate(model: PointwiseModel, examples: RankingExamples, random: np.random.Generator) -> None:
    """Let `model` begin with the probabilities that the retrieval scores alone suggest."""
    rows = random.permutation(len(examples.users))[:CALIBRATED_ON]
    candidates, scores = examples.candidates[rows], examples.scores[rows]
    there = candidates != 0
    if not there.any():
        return
    model.centre.fill_(float(scores[there].mean(dtype=np.float64)))
    model.spread.fill_(max(float(scores[there].std(dtype=np.float64)), 1e-6))
    numbers = model.score_numbers(torch.from_numpy(candidates), torch.from_numpy(scores)).numpy()
    clicked = np.arange(candidates.shape[1]) == examples.targets[rows][:, None]
    weights, bias = logistic_regression(numbers[there], clicked[there])
    model.score.weight.copy_(torch.from_numpy(weights)[None])
    model.score.bias.fill_(bias)


def _loss(
    model: PointwiseModel,
    examples: RankingExamples,
    features: Features,
    rows: NDArray[np.int64],
    negatives: int,
    random: np.random.Generator,
) -> Tensor:
    """The mean over the examples of the sum over their drawn candidates."""
    everything = examples.candidates[rows]
    drawn = draw_places(everything, examples.targets[rows], negatives, random)
    places = torch.from_numpy(drawn.places)
    users = torch.from_numpy(features.users[examples.users[rows]])
    histories = torch.from_numpy(examples.histories[rows]).long()
    candidates = torch.from_numpy(everything).long()
    # Of the whole list, as in service, not of what was drawn.
    numbers = model.score_numbers(candidates, torch.from_numpy(examples.scores[rows]))
    numbers = numbers.gather(1, places.unsqueeze(-1).expand(-1, -1, numbers.shape[-1]))
    candidates = candidates.gather(1, places)
    vectors, table_rows = model.items.table(histories, candidates)
    logits = model(users, histories, candidates, numbers, vectors, table_rows)
    losses = functional.binary_cross_entropy_with_logits(
        logits + torch.from_numpy(drawn.offset),
        torch.from_numpy(drawn.clicked.astype(np.float32)),
        weight=torch.from_numpy(drawn.counts.astype(np.float32)),
        reduction="sum",
    )
    return losses / len(rows)


@torch.no_grad()
def pointwise_logits(
    model: PointwiseModel, examples: RankingExamples, features: Features, batch: int = 128
) -> NDArray[np.float32]:
    """The model's logits for all `examples`, float32 ``[n, K]``, PADDING_SCORE for padding."""
    graph = PointwiseGraph(model).eval()
    logits = np.full(examples.candidates.shape, PADDING_SCORE, np.float32)
    for begin in range(0, len(examples.users), batch):
        rows = slice(begin, begin + batch)
        inputs: tuple[NDArray[Any], ...] = (
            features.users[examples.users[rows]],
            examples.histories[rows],
            examples.candidates[rows],
            examples.scores[rows],
        )
        logits[rows] = graph(*map(torch.from_numpy, inputs)).numpy()
    return logits


def log_loss(logits: NDArray[np.float32], examples: RankingExamples) -> float:
    """The mean log-loss of a candidate's probability, sigmoid of `logits` ``[n, K]``, padding left out."""
    there = examples.candidates != 0
    clicked = np.arange(there.shape[1]) == examples.targets[:, None]
    wide = logits.astype(np.float64)
    losses = np.logaddexp(0, wide) - clicked * wide
    return float(losses[there].mean()) if there.any() else 0.0
