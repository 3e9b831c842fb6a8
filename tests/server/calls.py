"""Requests and answers as arrays: below every client, so that nothing is checked before it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonrec_client.contract import PADDING_ID, RECOMMEND, Sizes

Arrays = dict[str, npt.NDArray[Any]]

PATIENCE = 30.0
"""Seconds that a call may take on a busy machine: no test that uses this is about speed."""


def request_of(
    sizes: Sizes, users: Sequence[int], *, session: Sequence[int] = (), diversity: float = 0.3
) -> Arrays:
    """The tensors of one request with a row per user, all with the same session and diversity."""
    items = np.full((len(users), sizes.session), PADDING_ID, np.int64)
    if session:
        items[:, -len(session) :] = session
    return {
        "user_id": np.array(users, np.int64).reshape(-1, 1),
        "session_items": items,
        "diversity": np.full((len(users), 1), diversity, np.float32),
    }


def rows_of(arrays: Mapping[str, npt.NDArray[Any]], rows: slice) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def tensors_of(arrays: Mapping[str, npt.NDArray[Any]]) -> list[grpcclient.InferInput]:
    tensors = []
    for name, array in arrays.items():
        tensors.append(grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    return tensors


def ask(client: Any, arrays: Mapping[str, npt.NDArray[Any]], model: str = RECOMMEND.name) -> Arrays:
    """Every output of `model`. Raises InferenceServerException where it refuses."""
    return outputs_of(client.infer(model, tensors_of(arrays), client_timeout=PATIENCE))


def outputs_of(result: Any) -> Arrays:
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def ask_at_once(
    client: Any, requests: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> list[Arrays | InferenceServerException]:
    """The answers to `requests`, in order, all of them in flight together; a refusal is its exception."""
    return [_answer_of(call) for call in [_send(client, arrays) for arrays in requests]]


def _send(client: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Future[Arrays]:
    call: Future[Arrays] = Future()

    def done(result: Any, error: InferenceServerException | None) -> None:
        if error is None:
            call.set_result(outputs_of(result))
        else:
            call.set_exception(error)

    client.async_infer(RECOMMEND.name, tensors_of(arrays), callback=done, client_timeout=PATIENCE)
    return call


def _answer_of(call: Future[Arrays]) -> Arrays | InferenceServerException:
    try:
        return call.result(PATIENCE)
    except InferenceServerException as refusal:
        return refusal


def assert_same_pages(one: Mapping[str, npt.NDArray[Any]], other: Mapping[str, npt.NDArray[Any]]) -> None:
    """The same items for the same reasons with the same status; scores may differ by rounding."""
    for name in ("item_id", "reason", "status"):
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    np.testing.assert_allclose(one["score"], other["score"], rtol=0, atol=1e-5)
