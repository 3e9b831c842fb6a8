"""Loops that numba compiles for the processor that they run on.

Compiling takes a second for each, so what was compiled is kept beside the file that the loop is in, or in the
user's cache (``NUMBA_CACHE_DIR`` names another place); where neither can be written, it is compiled at every
start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

try:
    import numba
    from numba import types as types
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"stages need {error.name}, which is not installed: pip install numba", name=error.name
    ) from error


def inlined(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function one that loops of its module may call; `options` are those of ``numba.njit``."""
    wrapper: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.njit(**options)
    return wrapper


def constant(dtype: Any, dimensions: int) -> Any:
    """The type of an array that the loop only reads; it may be mapped into memory."""
    return types.Array(dtype, dimensions, "C", readonly=True)


def compiled(
    takes: list[Any], function: Callable[..., Any], *, gives: Any = types.void, **options: Any
) -> Any:
    """`function`, compiled for arguments of the types `takes` and a result of the type `gives`.

    `options` are those of ``numba.njit``.
    """
    compiler: Any = partial(numba.njit, gives(*takes), nogil=True, **options)
    try:
        return compiler(cache=True)(function)
    except Exception:  # there is no place to keep it, or what is kept there cannot be read
        return compiler()(function)
