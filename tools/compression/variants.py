"""The forms in which a trained ranker can be served."""

from __future__ import annotations

from pathlib import Path

import onnx
from tritonrec_client.contract import Sizes

from tools.compression.distillation import new_student, teach
from tools.compression.pruning import prune
from tools.compression.quantisation import quantise
from tools.compression.requests import first_of, inputs_of, past_requests
from tools.config.build import BuildConfig
from tools.config.compression import CompressConfig, Variant
from tools.config.training import RankConfig
from tools.data.interactions import Interactions
from tools.training.candidates import RankingExamples, Retrieval
from tools.training.export import export_rank
from tools.training.features import Features
from tools.training.graph_files import write_graph
from tools.training.ranker import Ranker
from tools.training.retriever import Progress

FULL: Variant = "full"
INT8 = "int8"

SCALES_FROM = 256
"""Requests on which the scales of a graph in 8 bits are measured: of 500 candidates each."""


class Maker:
    """Makes the variants of one trained `ranker`; what two of them share is made once.

    `requests` are those of the past, as many as the configuration says or fewer.
    """

    def __init__(
        self,
        ranker: Ranker,
        config: CompressConfig,
        rank: RankConfig,
        requests: RankingExamples,
        features: Features,
        sizes: Sizes,
        seed: int,
    ) -> None:
        self.ranker, self.config, self.rank = ranker, config, rank
        self.requests, self.features, self.sizes, self.seed = requests, features, sizes, seed
        self._models: dict[str, Ranker] = {FULL: ranker}
        self._written: dict[str, Path] = {}

    def write(
        self, variant: Variant, path: Path, progress: Progress = lambda done, total, text: None
    ) -> None:
        """Write the graph of `variant` to `path`; its large constants may lie beside it.

        Graphs in float32 stay where they are as long as others are written: those are made from them.
        Raises GraphMismatch or QuantisationError where it does not answer like what it was made from.
        """
        name = model_of(variant)
        if name in self._written:  # an export takes seconds
            write_graph(onnx.load(self._written[name]), path)
        else:
            export_rank(self.model(name, progress), self.features, self.sizes, path)
            if variant == name:
                self._written[name] = path
        if variant.endswith(INT8):
            quantise(path, inputs_of(self.requests, self.features, 16, most=SCALES_FROM))

    def model(self, name: str, progress: Progress = lambda done, total, text: None) -> Ranker:
        """The ranker ``full``, ``pruned`` or ``distilled``."""
        if name not in self._models:
            self._models[name] = self._pruned(progress) if name == "pruned" else self._distilled(progress)
        return self._models[name]

    @property
    def served(self) -> Ranker:
        """The ranker that is served, before its layers are quantised."""
        return self.model(model_of(self.config.variant))

    def _pruned(self, progress: Progress) -> Ranker:
        smaller = prune(self.ranker, self.config.prune)
        self._teach(smaller, self.config.learning_rate, progress)
        return smaller

    def _distilled(self, progress: Progress) -> Ranker:
        form = self.config.student
        student = new_student(self.ranker, form, self.rank, self.features, self.sizes.history, self.seed)
        self._teach(student, form.learning_rate, progress)
        return student

    def _teach(self, smaller: Ranker, learning_rate: float, progress: Progress) -> None:
        teach(
            smaller,
            self.ranker,
            self.requests,
            self.features,
            epochs=self.config.epochs,
            learning_rate=learning_rate,
            seed=self.seed,
            progress=progress,
        )


def model_of(variant: Variant) -> str:
    """What `variant` is but for its precision: ``full``, ``pruned`` or ``distilled``."""
    return variant.removesuffix(INT8).removesuffix("-") or FULL


def served_form(
    config: BuildConfig,
    ranker: Ranker,
    retrieval: Retrieval,
    interactions: Interactions,
    features: Features,
    sizes: Sizes,
    most: int,
) -> Maker:
    """What makes the form in which `config` serves `ranker`, which is asked for candidates as `sizes` says.

    It learns from moments of `interactions`, `most` of them or fewer, whose candidates `retrieval` finds at
    once unless the full ranker is served.
    """
    compress = config.compress
    count = 0 if compress.variant == FULL else min(most, compress.requests)
    requests = first_of(past_requests(retrieval, interactions, count, config.seed), sizes.candidates)
    return Maker(ranker, compress, config.rank, requests, features, sizes, config.seed)
