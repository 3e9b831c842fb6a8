"""Arithmetic is counted as one would on paper."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from tools.gpu.flops import count_flops


def test_a_product_has_two_operations_for_each_pair_that_is_multiplied() -> None:
    left, right = torch.ones(3, 4, 5), torch.ones(3, 5, 6)
    assert count_flops(lambda: left @ right) == 2 * 3 * 4 * 5 * 6


def test_attention_is_two_products_whatever_kernel_would_do_it() -> None:
    query, key = torch.ones(2, 3, 10, 8), torch.ones(2, 3, 20, 8)
    work = lambda: functional.scaled_dot_product_attention(query, key, key)  # noqa: E731
    assert count_flops(work) == 2 * (2 * 2 * 3 * 10 * 20 * 8)


def test_what_is_no_product_counts_nothing() -> None:
    values = torch.ones(100)
    assert count_flops(lambda: (values + values).exp().sum()) == 0


def test_a_layer_counts_its_weights() -> None:
    layer = torch.nn.Linear(7, 9)
    assert count_flops(lambda: layer(torch.ones(4, 7))) == 2 * 4 * 7 * 9
