"""retrieve_and_rank: both stages that compute, on a GPU, and nothing between them leaves the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

try:
    import torch
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "the profile gpu_torch needs PyTorch, which is not installed: pip install 'torch>=2.11'"
    ) from missing
import numpy as np
from torch import Tensor
from tritonrec_client.contract import CANDIDATE, MODELS, RANK_SCORE, RETRIEVAL_SCORE, RETRIEVE_AND_RANK, Sizes

from python_backend.gpu.arrays import TORCH
from python_backend.gpu.batches import SIZES, FixedBatches
from python_backend.gpu.device import open_device
from python_backend.gpu.programs import FOLDER, INDEX, QUERY, RANK, load_program
from python_backend.gpu.search import GpuSearch
from python_backend.item_index import INDEX as LOCAL_INDEX
from python_backend.item_index import ItemIndex
from python_backend.release import Release
from python_backend.stages.base import Arrays, Stage

CERTAIN = "certain"


class RetrieveAndRank(Stage):
    """Query tower, exact search and ranker, one after the other on one device.

    Gives what `retrieve` and `rank` give: `candidate` int32, `retrieval_score` and `rank_score` float32, all
    ``[B, K]``.
    """

    name = RETRIEVE_AND_RANK.name
    arrays = TORCH

    def __init__(
        self, query: Any, search: GpuSearch, rank: Any, sizes: Sizes, device: torch.device,
        batch_sizes: tuple[int, ...] = SIZES,
    ) -> None:  # fmt: skip
        """`query` and `rank` are functions of tensors on `device`, by name (see `gpu_export`)."""
        self.device = device
        self._query, self._search, self._rank = query, search, rank
        widths = {tensor.name: tensor.resolve(sizes) for tensor in MODELS[self.name].inputs}
        with torch.inference_mode():
            self._batches = FixedBatches(self._compute, widths, device, batch_sizes)

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """`options`: ``device`` (cuda, cuda:1, …, cpu; cuda by default), ``scan`` (fp16 by default, or int8).

        Raises DeviceUnavailable, ValueError for other options, and FileNotFoundError where the release was
        built without the profile.
        """
        device = open_device(options.get("device") or "cuda")
        if device.type == "cuda":
            torch.cuda.set_device(device)  # what kernels are launched on
        folder = release.artifacts / FOLDER
        query, rank = load_program(folder / QUERY, device), load_program(folder / RANK, device)
        local = release.artifacts / LOCAL_INDEX
        search = GpuSearch(
            ItemIndex.open(local if local.is_dir() else folder / INDEX),
            candidates=release.sizes.candidates,
            device=device,
            scan=options.get("scan") or "fp16",  # type: ignore[arg-type]  # which looks at it
        )
        return cls(query, search, rank, release.sizes, device)

    def __call__(self, inputs: Arrays) -> dict[str, Any]:
        """Of numpy arrays numpy arrays, of tensors tensors, which lie where the inputs did."""
        tensors = {
            tensor.name: torch.from_numpy(np.ascontiguousarray(value))
            if isinstance(value := inputs[tensor.name], np.ndarray)
            else value
            for tensor in MODELS[self.name].inputs
        }
        answers = self.run(tensors)
        if all(isinstance(value, np.ndarray) for value in inputs.values()):
            return {name: tensor.numpy() for name, tensor in answers.items()}
        return answers

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The stage's outputs for int32 tensors ``[B, width]``; on the device if one of those was there.

        They are complete when this returns: the card has been waited for.
        """
        to_host = all(tensor.device.type == "cpu" for tensor in inputs.values())
        answers = self._batches(inputs, to_host=to_host)
        certain = answers.pop(CERTAIN)[:, 0] != 0
        if not bool(certain.all()):
            # Hardly ever: where the scan could not tell some items from one another.
            rows = (~certain).nonzero()[:, 0].cpu()
            again = {
                name: tensor.to(self.device)[rows.to(self.device)].contiguous()
                for name, tensor in inputs.items()
            }
            for name, tensor in self._compute(again, exactly=True).items():
                if name != CERTAIN:
                    answers[name][rows.to(answers[name].device)] = tensor.to(answers[name].device)
        return answers

    def _compute(self, inputs: dict[str, Tensor], *, exactly: bool = False) -> dict[str, Tensor]:
        """All of it on the device; nothing waits for the card, so that it can be captured."""
        users, seen = inputs["user_features"], inputs["seen"]
        # An index beyond a table would leave the card unusable for every later request.
        history = inputs["history"].clamp(0, self._search.last_item)
        vectors = self._search.vectors.index_select(0, history.flatten())
        query = self._query(
            user_features=users, history=history, history_vectors=vectors.reshape(*history.shape, -1)
        )
        found = self._search.exactly(query, seen) if exactly else self._search(query, seen)
        rank_score = self._rank(
            user_features=users, history=history, candidate=found.items, retrieval_score=found.scores
        )
        return {
            CANDIDATE.name: found.items,
            RETRIEVAL_SCORE.name: found.scores,
            RANK_SCORE.name: rank_score,
            CERTAIN: found.certain.int(),
        }
