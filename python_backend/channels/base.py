"""What finds the candidates of a batch of users."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from python_backend.stages.base import Arrays


class Channel(abc.ABC):
    """One way to find candidates; a channel holds no state that a request changes."""

    @classmethod
    @abc.abstractmethod
    def open(cls, folder: Path, *, candidates: int, threads: int) -> Self:
        """The channel whose files are in `folder`, giving `candidates` items with so many `threads`.

        Raises FileNotFoundError or ValueError where the files cannot be used.
        """

    @abc.abstractmethod
    def __call__(self, inputs: Arrays) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Items int32 ``[B, candidates]``, best first, and their scores float32 of the same shape.

        `inputs` are those of `retrieve`: user_features ``[B, F]``, history ``[B, L]`` (newest last, 0 is
        padding) and seen ``[B, E]``, which has every item of the history. No seen item is given. Places for
        which there is no item hold 0 and ``item_index.PADDING_SCORE``, after all others.
        """
