"""The query tower: a causal transformer over a user's history.

SASRec (Kang & McAuley 2018, https://arxiv.org/abs/1808.09781) with pre-norm blocks, item vectors from id
and features, and a first token that carries the user's own features and that every position sees.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tools.training.item_encoder import FeatureEmbedding


class Block(nn.Module):
    """A pre-norm transformer block around `scaled_dot_product_attention`, which exports to ONNX."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.residual_dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor, newest: int | None = None) -> Tensor:
        """What becomes of `hidden` ``[B, T, d]``; `mask` is bool ``[B, 1, T, T]`` (True: may be seen).

        With `newest`, only of so many positions at the end, ``[B, newest, d]``: the others are still seen.
        """
        batch, length, width = hidden.shape
        asking = length if newest is None else newest
        heads = self.query_key_value(self.attention_norm(hidden))
        heads = heads.reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(
            query[:, :, -asking:],
            key,
            value,
            attn_mask=mask[:, :, -asking:],
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = attended.transpose(1, 2).reshape(batch, asking, width)
        hidden = hidden[:, -asking:] + self.residual_dropout(self.attention_output(attended))
        return hidden + self.residual_dropout(self.feed_forward(self.feed_forward_norm(hidden)))


class QueryTower(nn.Module):
    """A user's features and history to one query vector per position.

    Histories are right-aligned: the newest item is last, index 0 pads the front. Positions are counted
    from the end, so a shorter batch may be cut at the front. A position whose item is padding knows the
    user's features alone; that is what an unknown user is served from.

    With `recompute` set, training keeps only what goes into each block and computes its inside a second time
    for the gradients (Chen et al. 2016, https://arxiv.org/abs/1604.06174): less memory, a third more work.
    """

    recompute = False

    def __init__(
        self,
        user_embedding: FeatureEmbedding,
        history: int,
        width: int,
        blocks: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.user_embedding = user_embedding
        self.first_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn(history, width) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """Query vectors, float ``[B, L, d]``; position j has seen the items up to and with j.

        `user_features` int ``[B, F]``, `history` int ``[B, L]`` item indices, `history_vectors`
        float ``[B, L, d]`` their item vectors.
        """
        return self._hidden(user_features, history, history_vectors)[:, 1:]

    def newest(self, user_features: Tensor, history: Tensor, history_vectors: Tensor) -> Tensor:
        """The last position's query vectors alone, float ``[B, d]``.

        Nothing looks at the other positions after the last block, which is spared most of its work: two
        fifths of all, in a tower of two blocks.
        """
        return self._hidden(user_features, history, history_vectors, newest=1)[:, 0]

    def _hidden(
        self, user_features: Tensor, history: Tensor, history_vectors: Tensor, newest: int | None = None
    ) -> Tensor:
        length = history.shape[1]
        user = self.first_token + self.user_embedding(user_features.long())
        tokens = torch.cat([user.unsqueeze(1), history_vectors + self.positions[-length:]], dim=1)
        hidden = self.dropout(tokens)
        mask = self._mask(history)
        for number, block in enumerate(self.blocks, start=1):
            asked = newest if number == len(self.blocks) else None
            if self.recompute and self.training:
                hidden = checkpoint(block, hidden, mask, asked, use_reentrant=False)
            else:
                hidden = block(hidden, mask, asked)
        normed: Tensor = self.norm(hidden)
        return normed

    @staticmethod
    def _mask(history: Tensor) -> Tensor:
        """Who sees whom, bool ``[B, 1, L + 1, L + 1]``: causal, no padding, the first token always."""
        known = functional.pad(history != 0, (1, 0), value=True)
        length = known.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=history.device).tril()
        return causal[None, None] & known[:, None, None, :]
