"""Pruning by magnitude: hidden units that say least are taken out, and the matrices become smaller.

Whole units go, not single weights: a matrix with zeros in it is as large and as slow as before.
After Han et al. 2015, https://arxiv.org/abs/1506.02626, and for whole units Li et al. 2017,
https://arxiv.org/abs/1608.08710.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn

from tools.training.ranker import Cross, Ranker


@torch.no_grad()
def prune(ranker: Ranker, share: float) -> Ranker:
    """A copy of `ranker` without the `share` of hidden units, rounded down, whose weights are smallest.

    That is of each cross layer's narrow side and of both deep layers. A unit is as large as the norm of what
    goes into it times the norm of what comes out of it. Item vectors and attention stay. The answers have
    the same form; they are no longer the same. Raises ValueError unless 0 <= `share` < 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}; allowed is 0 or more and less than 1")
    pruned = copy.deepcopy(ranker)
    for module in pruned.crosses:
        cross = cast(Cross, module)
        kept = _largest(_rows(cross.narrow) * _columns(cross.widen.weight), share)
        cross.narrow, cross.widen = _with_outputs(cross.narrow, kept), _with_inputs(cross.widen, kept)
    first, second = cast(nn.Linear, pruned.deep[0]), cast(nn.Linear, pruned.deep[3])
    kept = _largest(_rows(first) * _columns(second.weight), share)
    first, second = _with_outputs(first, kept), _with_inputs(second, kept)
    joint = pruned.correction.in_features - second.out_features
    kept = _largest(_rows(second) * _columns(pruned.correction.weight[:, joint:]), share)
    pruned.deep[0], pruned.deep[3] = first, _with_outputs(second, kept)
    pruned.correction = _with_inputs(pruned.correction, torch.cat([torch.arange(joint), joint + kept]))
    return pruned.eval()


def _rows(layer: nn.Linear) -> Tensor:
    """The norm of what goes into each unit of `layer`, its bias included."""
    square = layer.weight.square().sum(dim=1)
    return (square if layer.bias is None else square + layer.bias.square()).sqrt()


def _columns(weight: Tensor) -> Tensor:
    return weight.norm(dim=0)


def _largest(size: Tensor, share: float) -> Tensor:
    """The places of all but the `share` smallest of `size`, in their order."""
    kept = len(size) - math.floor(share * len(size))
    return size.argsort(descending=True, stable=True)[:kept].sort().values


def _with_outputs(layer: nn.Linear, kept: Tensor) -> nn.Linear:
    return _layer(layer.weight[kept], None if layer.bias is None else layer.bias[kept])


def _with_inputs(layer: nn.Linear, kept: Tensor) -> nn.Linear:
    return _layer(layer.weight[:, kept], layer.bias)


def _layer(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer
