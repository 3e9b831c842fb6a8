"""Many requests, one array operation: how the stages' answers are computed for a whole batch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np
from tritonrec_client.contract import MODELS, Model, Tensor, names_release, release_to_wire

from python_backend.arrays import NUMPY
from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage, Unavailable

NUMPY_DTYPES = NUMPY.dtypes

Answer = dict[str, Array] | InvalidRequest | Unavailable
"""What one request gets: the outputs, or why there are none."""


class ContractError(RuntimeError):
    """A stage returned something else than the contract says: a fault of its code, not of a request."""


class BatchAnswerer:
    """Answers the requests of one execution with one call of the stage.

    A bad request gets an InvalidRequest of its own and does not reach the stage; the rows of all others are
    concatenated, computed once and split again, so their answers do not depend on who else is in the batch.
    What a stage cannot answer now, it cannot answer for any of them.
    """

    def __init__(self, stage: Stage, release: Release, model: Model | None = None) -> None:
        """`model` is what the stage takes and gives, by default what the contract says of it."""
        model = model or MODELS[stage.name]
        self._stage = stage
        self._inputs = model.inputs
        self._release_number = release_to_wire(release.name)
        self._releases = [tensor.name for tensor in model.outputs if names_release(tensor.name)]
        self._outputs = [
            (tensor, tensor.resolve(release.sizes))
            for tensor in model.outputs
            if not names_release(tensor.name)
        ]

    def __call__(self, requests: Sequence[Arrays]) -> list[Answer]:
        """One answer per request, in order; each array ``[rows of that request, width]``.

        Raises ContractError, or whatever the stage raises, when there is no answer for the whole batch.
        """
        refusals = [self._refusal(request) for request in requests]
        accepted = [request for request, refusal in zip(requests, refusals, strict=True) if refusal is None]
        try:
            answers: Iterator[Answer] = iter(self._compute(accepted) if accepted else ())
        except Unavailable as error:
            answers = itertools.repeat(error)
        return [refusal or next(answers) for refusal in refusals]

    def _refusal(self, request: Arrays) -> InvalidRequest | None:
        try:
            rows = {}
            for tensor in self._inputs:
                if tensor.name not in request:
                    raise InvalidRequest(tensor.name, "nothing", "one tensor; every input is required")
                rows[tensor.name] = len(request[tensor.name])
                if rows[tensor.name] == 0:
                    raise InvalidRequest(tensor.name, "a batch of 0 rows", "1 row or more")
                if rows[tensor.name] != rows[self._inputs[0].name]:
                    first = self._inputs[0].name
                    raise InvalidRequest(
                        tensor.name, f"{rows[tensor.name]} rows", f"as many as {first} has: {rows[first]}"
                    )
            self._stage.check(request)
        except InvalidRequest as refusal:
            return refusal
        return None

    def _compute(self, requests: Sequence[Arrays]) -> list[dict[str, Array]]:
        """The answers to `requests`, all of them valid and at least one."""
        names, arrays = [tensor.name for tensor in self._inputs], self._stage.arrays
        if len(requests) == 1:
            batch: Arrays = requests[0]
        else:
            batch = {name: arrays.concatenate([request[name] for request in requests]) for name in names}
        rows = [len(request[names[0]]) for request in requests]
        began = time.perf_counter()
        made = self._stage(batch)
        self._stage.observe(self._stage.name, time.perf_counter() - began)
        for tensor, width in self._outputs:
            self._require(made, tensor, (sum(rows), width))
        # A stage may make more than its model gives.
        outputs = {tensor.name: made[tensor.name] for tensor, _ in self._outputs}
        outputs |= dict.fromkeys(self._releases, arrays.full(sum(rows), self._release_number))
        if len(rows) == 1:
            return [outputs]
        ends = np.cumsum(rows)
        return [
            {name: array[end - count : end] for name, array in outputs.items()}
            for end, count in zip(ends, rows, strict=True)
        ]

    def _require(self, outputs: Arrays, tensor: Tensor, shape: tuple[int, int]) -> None:
        array, dtype = outputs.get(tensor.name), self._stage.arrays.dtypes[tensor.dtype]
        if array is None or array.shape != shape or array.dtype != dtype:
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise ContractError(
                f"{self._stage.name} gave {found} as {tensor.name}; the contract says {dtype} {list(shape)}"
            )
