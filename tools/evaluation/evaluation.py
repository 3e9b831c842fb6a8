"""What was measured of a release: the input of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonrec_client.contract import Sizes

from tools.evaluation.comparison import QUESTION, Comparison
from tools.evaluation.metrics import Ints, Items

RETRIEVE = "retrieve"
RANK = "rank"
RERANK = "rerank"
RERANK_DEFAULT = "rerank (default diversity)"
STAGES = (RETRIEVE, RANK, RERANK, RERANK_DEFAULT)
"""The keys of `Evaluation.stages`, in the order of the pipeline. `RERANK` is the page at diversity 0."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A release's lists for the test users, those of the baselines, and how they came about.

    Rows are users, the same in every array; U users, I items, item indices 1 … I, 0 is padding.
    Raises ValueError where arrays do not fit together.

    Attributes:
        release: the release's name, 12 hexadecimal digits.
        name: what the configuration calls this build.
        trained_on: one sentence that says which events the shipped models were trained on.
        seed: the build's seed.
        sizes: the build's tensor widths.
        n_users, n_items, n_events: how large the data are.
        data_range: unix seconds of the first and the last event.
        targets: int32 ``[U]``, the held-out item, 0 for a user without one.
        history_lengths: int64 ``[U]``, how many events each user had before the target.
        stages: int32 ``[U, K]`` per name in `STAGES`: what the server returned, best first.
        baselines: int32 ``[U, K]`` per method.
        popularity: int64 ``[I + 1]``, events per item before the targets.
        item_vectors: float ``[I + 1, d]``, by which the diversity of lists is measured.
        page_probability: float ``[U, N]``, the score of each item of `stages[RERANK]` as the probability
            that it is the next one.
        curves: per model the rows of its training, each with "epoch" and figures such as "loss".
        timings: seconds per build step.
        library_versions: per library its version.
        latency: milliseconds per stage and percentile, such as ``{"recommend": {"p50": 6.1}}``, if measured.
        skipped: per missing baseline the reason.
        questions: int64 ``[U]``, what each user was asked (`comparison.question_hashes`), if other releases
            are to be compared with this one.
        compared: what the active release would have shown to the same users, if there was one.
        variant: the form in which the ranker is served, a name in ``[compress]``.
        receipt: what tools/compress.py wrote about these forms, if the report is to show it.
    """

    release: str
    name: str
    trained_on: str
    seed: int
    sizes: Sizes
    n_users: int
    n_items: int
    n_events: int
    data_range: tuple[int, int]
    targets: Items
    history_lengths: npt.NDArray[np.int64]
    stages: Mapping[str, Items]
    baselines: Mapping[str, Items]
    popularity: npt.NDArray[np.int64]
    item_vectors: npt.NDArray[Any]
    page_probability: npt.NDArray[Any]
    curves: Mapping[str, Sequence[Mapping[str, float]]]
    timings: Mapping[str, float]
    library_versions: Mapping[str, str]
    latency: Mapping[str, Mapping[str, float]] | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    questions: Ints | None = None
    compared: Comparison | None = None
    variant: str = "full"
    receipt: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        missing = [stage for stage in STAGES if stage not in self.stages]
        if missing:
            raise ValueError(f"stages lacks {', '.join(missing)}; it must hold {', '.join(STAGES)}")
        shared = [name for name in self.baselines if name in self.stages]
        if shared:
            raise ValueError(f"{', '.join(shared)} is the name of a stage and of a baseline")
        if QUESTION in self.baselines:
            raise ValueError(f"a baseline cannot be called {QUESTION}")
        if not np.any(self.targets > 0):
            raise ValueError("no user has a target: there is nothing to measure accuracy by")
        users = len(self.targets)
        for method, ranked in self.lists.items():
            if ranked.ndim != 2 or len(ranked) != users:
                raise ValueError(
                    f"{method} is {list(ranked.shape)}; it must be [{users}, K], a row per target"
                )
            if ranked.size and not 0 <= ranked.min() <= ranked.max() <= self.n_items:
                raise ValueError(f"{method} holds item indices outside 0 … {self.n_items}")
        self._expect("history_lengths", self.history_lengths.shape, (users,))
        self._expect("page_probability", self.page_probability.shape, self.stages[RERANK].shape)
        self._expect("popularity", self.popularity.shape, (self.n_items + 1,))
        self._expect("item_vectors", self.item_vectors.shape[:1], (self.n_items + 1,))
        if self.questions is not None:
            self._expect("questions", self.questions.shape, (users,))
        if self.compared is not None:
            asked = int(np.count_nonzero(self.targets > 0))
            self._expect("compared.ranks", self.compared.ranks.shape, (asked,))

    @property
    def lists(self) -> dict[str, Items]:
        """Every method's lists: the stages in the order of the pipeline, then the baselines."""
        return {stage: self.stages[stage] for stage in STAGES} | dict(self.baselines)

    @staticmethod
    def _expect(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if found != expected:
            raise ValueError(f"{name} has the shape {list(found)}; expected {list(expected)}")
