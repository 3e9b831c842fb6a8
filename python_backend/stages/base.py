"""What a stage is: arrays in, arrays out, one batch at a time."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy.typing as npt

from python_backend.arrays import NUMPY, ArrayLibrary
from python_backend.release import Release

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


Observe = Callable[[str, float], object]
"""Told the name of a stage and the seconds that one batch took in it."""


class InvalidRequest(ValueError):
    """A request that cannot be answered; the message names the field and what is allowed."""

    def __init__(self, field: str, found: object, allowed: str) -> None:
        super().__init__(f"{field}: found {found}; allowed is {allowed}")
        self.field = field


class Unavailable(RuntimeError):
    """A batch that a stage cannot answer now; its callers may try again with the same requests."""


class Stage(abc.ABC):
    """One step of the pipeline, for a whole batch at once.

    Inputs and outputs are dictionaries from the contract's tensor names to arrays ``[B, width]``.
    A stage holds no state that a request changes, so one instance may serve any order of batches.
    """

    name: ClassVar[str]
    """The stage's name in the contract."""

    observe: Observe = staticmethod(lambda stage, seconds: None)
    """Who is told how long the stage took; by default nobody."""

    arrays: ClassVar[ArrayLibrary] = NUMPY
    """Whose arrays the stage takes and gives; Triton's tensors become those without a copy."""

    @classmethod
    @abc.abstractmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """The stage of `release`; `options` are the string parameters of its config.pbtxt."""

    def check(self, inputs: Arrays) -> None:  # noqa: B027 - most stages allow every value
        """Raise InvalidRequest where `inputs` of one request hold a value that is not allowed.

        Only what clients send is looked at: what other stages made needs no check and may not be there yet.
        Shapes and dtypes have been checked by Triton against config.pbtxt.
        """

    @abc.abstractmethod
    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """The stage's outputs for a checked batch, without its release tensor.

        May raise Unavailable, for the whole batch.
        """
