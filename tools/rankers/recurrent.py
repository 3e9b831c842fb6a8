"""A recurrent network over the history, whose last state meets each candidate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tools.config.rankers import LstmRanker
from tools.rankers.pointwise import NUMBERS, PointwiseModel, Tower, View, silent
from tools.training.features import Features


class Lstm(PointwiseModel):
    """A long short-term memory (Hochreiter & Schmidhuber 1997) over the history, oldest item first.

    The deep network sees its last state, the candidate and their product. The memory itself has no biases:
    an input that is 1 at known places stands in for them. So padding in front of the history, which is all
    zeros, leaves the state at 0, exactly.
    """

    def __init__(self, config: LstmRanker, features: Features, history: int) -> None:
        super().__init__(config, features)
        width = config.width
        self.memory = nn.LSTM(width + 1, width, bias=False, batch_first=True)
        self.tower = Tower(2 * width, 2 * width + NUMBERS, config.hidden, config.dropout)
        self.last = silent(config.hidden)

    def correction(self, view: View) -> Tensor:
        steps = torch.cat([view.past, view.known.unsqueeze(-1).to(view.past.dtype)], dim=-1)
        state = self.memory(steps)[0][:, -1]
        user = torch.cat([view.user, state], dim=-1)
        known = torch.cat([view.candidate, view.candidate * state.unsqueeze(1), view.numbers], dim=-1)
        return self.last(self.tower(user, known)).squeeze(-1)
