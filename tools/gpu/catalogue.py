"""Catalogues made up on the device itself: ten million items in seconds, from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CLUSTERS, SPREAD, BIAS = 256, 0.5, 0.5
CHUNK = 1 << 20
SEEN = 100
"""So many items that each user has seen; the other places are padding."""
LIKED, NOISE = 4, 1.0


@dataclass(frozen=True)
class Catalogue:
    """Items to search in.

    Attributes:
        vectors: float16 ``[n + 1, d]``; row 0 is padding.
        bias: float32 ``[n + 1]``.
    """

    vectors: Tensor
    bias: Tensor

    @classmethod
    def of(cls, n_items: int, width: int, device: torch.device, seed: int) -> Catalogue:
        """`n_items` vectors around centres of length near 1, as `tools.synthetic.vectors` makes them.

        Dimensions are of unequal scale, as trained ones are. Values are float16 numbers, so that every side
        of a comparison searches the same vectors, whatever it computes with.
        """
        random = torch.Generator(device).manual_seed(seed)
        scale = torch.linspace(1, 1 / 3, width, device=device)
        scale /= scale.square().sum().sqrt()
        centres = torch.randn(CLUSTERS, width, generator=random, device=device) * scale
        vectors = torch.zeros(n_items + 1, width, dtype=torch.float16, device=device)
        for begin in range(1, n_items + 1, CHUNK):
            count = min(CHUNK, n_items + 1 - begin)
            # Zipf's law with exponent 0.5: the k-th cluster in proportion to 1/√k.
            place = torch.rand(count, generator=random, device=device).square() * CLUSTERS
            chunk = torch.randn(count, width, generator=random, device=device) * (scale * SPREAD)
            chunk += centres[place.long().clamp(max=CLUSTERS - 1)]
            vectors[begin : begin + count] = chunk.half()
        bias = BIAS * torch.randn(n_items + 1, generator=random, device=device)
        return cls(vectors, bias)

    def draw(self, rows: int, seed: int) -> tuple[Tensor, Tensor]:
        """Queries float32 ``[B, d]`` near what their users liked, and seen items int32 ``[B, 1024]``."""
        n, device = len(self.vectors), self.vectors.device
        random = torch.Generator(device).manual_seed(seed)
        liked = torch.randint(1, n, (rows, LIKED), generator=random, device=device)
        queries = 4 * self.vectors[liked].float().sum(dim=1)
        queries += NOISE * torch.randn(queries.shape, generator=random, device=device)
        seen = torch.zeros(rows, 1024, dtype=torch.int32, device=device)
        seen[:, :SEEN] = torch.randint(1, n, (rows, SEEN), generator=random, device=device).int()
        return queries, seen


def whole_product(
    vectors: Tensor, bias: Tensor, queries: Tensor, seen: Tensor, candidates: int
) -> tuple[Tensor, Tensor]:
    """The best unseen items by one matrix product and `torch.topk`, as one would write it in three lines.

    `queries` ``[B, d]`` and `bias` ``[n]`` are of the vectors' dtype; the scores of all items, ``[B, n]``,
    are in memory at once. Gives scores ``[B, K]``, best first, and items int64 ``[B, K]``.
    """
    scores = torch.addmm(bias, queries, vectors.T)
    scores.scatter_(1, seen.long(), -torch.inf)
    scores[:, 0] = -torch.inf
    best = scores.topk(candidates, dim=1)
    return best.values, best.indices
