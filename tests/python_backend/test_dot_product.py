"""The integer product that the search scans with."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_backend.dot_product import AT_ONCE, dot


def products_of(codes: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Each row's product, from a loop like the search's."""
    width = codes.shape[1]

    @numba.njit
    def loop(codes: np.ndarray, query: np.ndarray, found: np.ndarray) -> None:
        for row in range(len(codes)):
            found[row] = dot(codes[row], query, width)

    found = np.zeros(len(codes), np.int32)
    loop(codes, query, found)
    return found


@pytest.mark.parametrize("width", [1, 7, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 50, 64])
def test_it_is_the_sum_of_the_products_at_every_width(width: int) -> None:
    random = np.random.default_rng(width)
    codes = random.integers(-127, 128, (37, width)).astype(np.int8)
    query = random.integers(-(2**15) + 1, 2**15, width).astype(np.int16)
    assert np.array_equal(products_of(codes, query), codes.astype(np.int64) @ query.astype(np.int64))


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([-127, 127]), st.sampled_from([-(2**15) + 1, 2**15 - 1]))
def test_the_greatest_values_there_are_do_not_overflow(code: int, step: int) -> None:
    # A pair of them is more than 16 bits hold, and 64 are less than 32 bits do.
    codes, query = np.full((2, 64), code, np.int8), np.full(64, step, np.int16)
    assert products_of(codes, query).tolist() == [64 * code * step] * 2


def test_rows_may_begin_anywhere_in_memory() -> None:
    memory = np.random.default_rng(0).integers(-127, 128, 1 + 5 * 33).astype(np.int8)
    codes = memory[1:].reshape(5, 33)
    query = np.arange(33, dtype=np.int16)
    assert np.array_equal(products_of(codes, query), codes.astype(np.int64) @ query.astype(np.int64))


def test_a_width_that_is_no_constant_is_refused() -> None:
    @numba.njit
    def loop(codes: np.ndarray, query: np.ndarray, width: int) -> int:
        return dot(codes, query, width)

    with pytest.raises(numba.TypingError):
        loop(np.zeros(4, np.int8), np.zeros(4, np.int16), 4)
