"""The query tower as it is exported: what `QueryTower.newest` says, to the last digits, in half the steps.

A page asks for one query, so most of a graph's time is not arithmetic but one step after the other.
Everything here follows from the trained weights alone:

- The layers see all positions as rows of one matrix: so a bias comes with its product.
- The attention's scale is folded into the query's weights, the first token into the vectors of user features.
- What may not be seen is a term of the attention, made once for all blocks.
- The last block asks for its last position only, as `QueryTower.newest` does.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from tools.training.folded_features import FoldedFeatures
from tools.training.query_tower import Block, QueryTower


class FoldedBlock(nn.Module):
    """A trained `Block` over all positions, the rows of ``[B · T, d]``."""

    @torch.no_grad()
    def __init__(self, block: Block, *, newest: bool) -> None:
        """With `newest` only of each user's last position, ``[B, d]``: the others are still seen."""
        super().__init__()
        self.heads, self.newest = block.heads, newest
        self.attention_norm, self.feed_forward_norm = block.attention_norm, block.feed_forward_norm
        width = block.attention_output.weight.shape[0]
        scale = torch.ones(3 * width, 1)
        scale[:width] /= math.sqrt(width // block.heads)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.query_key_value.weight.copy_(block.query_key_value.weight * scale)
        self.query_key_value.bias.copy_(block.query_key_value.bias * scale[:, 0])
        self.attention_output = block.attention_output
        self.hidden = cast(nn.Linear, block.feed_forward[0])
        self.output = cast(nn.Linear, block.feed_forward[3])

    def forward(self, rows: Tensor, unseen: Tensor) -> Tensor:
        """`unseen` float ``[B, 1, T or 1, T]`` is added to the attention: 0, or -inf for what is hidden."""
        length, width = unseen.shape[-1], rows.shape[-1]
        heads = self.query_key_value(self.attention_norm(rows))
        heads = heads.reshape(-1, length, 3 * self.heads, width // self.heads).transpose(1, 2)
        query, key, value = heads.split(self.heads, dim=1)
        if self.newest:
            query, rows = query[:, :, -1:], rows.reshape(-1, length, width)[:, -1]
        attended = (query @ key.transpose(-1, -2) + unseen).softmax(dim=-1) @ value
        rows = rows + self.attention_output(attended.transpose(1, 2).reshape(-1, width))
        fed: Tensor = self.output(functional.gelu(self.hidden(self.feed_forward_norm(rows))))
        return rows + fed


class FoldedTower(nn.Module):
    """A trained `QueryTower` as it is served; it answers as `QueryTower.newest` does."""

    positions: Tensor
    causal: Tensor

    @torch.no_grad()
    def __init__(self, tower: QueryTower) -> None:
        super().__init__()
        self.user = FoldedFeatures(tower.user_embedding, tower.first_token)
        self.register_buffer("positions", tower.positions.detach().clone())
        length = len(tower.positions) + 1
        self.register_buffer("causal", torch.full((length, length), -torch.inf).triu(1))
        blocks = [cast(Block, block) for block in tower.blocks]
        self.blocks = nn.ModuleList(
            FoldedBlock(block, newest=number == len(blocks)) for number, block in enumerate(blocks, start=1)
        )
        self.norm = tower.norm
        self.eval()

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """Query vectors, float ``[B, d]``; see `QueryTower.forward` for what is taken."""
        tokens = [self.user(user_features).unsqueeze(1), history_vectors + self.positions]
        rows = torch.cat(tokens, dim=1).flatten(0, 1)
        padding = torch.where(history == 0, -torch.inf, 0.0)
        padding = functional.pad(padding, (1, 0))[:, None, None]
        unseen = padding + self.causal
        for block in self.blocks:
            rows = block(rows, padding if cast(FoldedBlock, block).newest else unseen)
        query: Tensor = self.norm(rows)
        return query
