"""What a running server returns to the test users: the lists that a release is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray
from tritonrec_client.contract import DEFAULT_DIVERSITY, MODELS, PADDING_ID, RECOMMEND, Model, Sizes

from python_backend.plan import Plan, Step

BATCH = 32

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ServedLists:
    """A release's answers to some users, in their order; each value is ``[U, width]``.

    Attributes:
        stages: every tensor of the stages, asked one after the other at diversity 0.
        plain: the ensemble's outputs at diversity 0.
        varied: the ensemble's outputs at the default diversity.
    """

    stages: Tensors
    plain: Tensors
    varied: Tensors


def requests_of(user_ids: NDArray[np.int64], sizes: Sizes, diversity: float) -> Tensors:
    """The ensemble's inputs for users without a session."""
    return {
        "user_id": user_ids[:, None],
        "session_items": np.full((len(user_ids), sizes.session), PADDING_ID, dtype=np.int64),
        "diversity": np.full((len(user_ids), 1), diversity, dtype=np.float32),
    }


Progress = Callable[[int, int], None]
"""Called with (users done, users in all)."""


def fetch_pages(
    address: str,
    release: str,
    user_ids: NDArray[np.int64],
    sizes: Sizes,
    diversity: float,
    progress: Progress = lambda done, total: None,
) -> Tensors:
    """The outputs of `release`'s ensemble for `user_ids` (int64 ``[U]`` wire ids); `address` is gRPC's."""
    parts = []
    with grpcclient.InferenceServerClient(address) as client:
        for begin in range(0, len(user_ids), BATCH):
            tensors = requests_of(user_ids[begin : begin + BATCH], sizes, diversity)
            parts.append(infer(client, RECOMMEND.name, release, tensors))
            progress(min(begin + BATCH, len(user_ids)), len(user_ids))
    return _concatenate(parts)


def fetch_lists(
    address: str,
    release: str,
    user_ids: NDArray[np.int64],
    sizes: Sizes,
    plan: Plan,
    progress: Progress = lambda done, total: None,
) -> ServedLists:
    """The pages of `user_ids`, and what each step of the release's `plan` gives for them at diversity 0."""
    parts: list[Tensors] = []
    with grpcclient.InferenceServerClient(address) as client:
        for begin in range(0, len(user_ids), BATCH):
            tensors = requests_of(user_ids[begin : begin + BATCH], sizes, 0.0)
            for step in plan.steps:
                tensors |= infer(client, step, release, tensors)
            parts.append(tensors)
            progress(min(begin + BATCH, len(user_ids)) // 2, len(user_ids))

    def later(done: int, total: int) -> None:
        progress((total + done) // 2, total)

    plain = fetch_pages(address, release, user_ids, sizes, 0.0, later)
    varied = fetch_pages(address, release, user_ids, sizes, DEFAULT_DIVERSITY)
    return ServedLists(_concatenate(parts), plain, varied)


def infer(
    client: grpcclient.InferenceServerClient,
    model: str | Step,
    release: str | None,
    tensors: Mapping[str, NDArray[Any]],
    *,
    timeout: float | None = None,
) -> Tensors:
    """The outputs of `release`'s `model` for those of `tensors` that it takes, within `timeout` seconds.

    Without a `release`, of what is called `model` alone. The tensors of a step are called as they are on the
    way from step to step.
    """
    contract: Model = model.contract if isinstance(model, Step) else MODELS[model]
    ports = model if isinstance(model, Step) else None
    names = [port.name for port in ports.inputs] if ports else [tensor.name for tensor in contract.inputs]
    inputs = []
    for tensor, name in zip(contract.inputs, names, strict=True):
        array = tensors[name]
        request = grpcclient.InferInput(tensor.name, array.shape, tensor.dtype)
        request.set_data_from_numpy(array)
        inputs.append(request)
    asked = contract.name if release is None else f"{contract.name}_{release}"
    result = client.infer(asked, inputs, client_timeout=timeout)
    names = [port.name for port in ports.outputs] if ports else [tensor.name for tensor in contract.outputs]
    return {name: result.as_numpy(tensor.name) for tensor, name in zip(contract.outputs, names, strict=True)}


def _concatenate(parts: list[Tensors]) -> Tensors:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
