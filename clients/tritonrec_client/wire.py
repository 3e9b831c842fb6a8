"""Between plain arrays and tritonclient: inputs, outputs, connection options, failures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput, InferResult
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from tritonrec_client import contract
from tritonrec_client.contract import Model
from tritonrec_client.course import UNLOADED, Failure
from tritonrec_client.options import Keepalive, Tls
from tritonrec_client.request import Arrays, ModelShape

_FIXED_SIZE = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
_DTYPES = {name: np.dtype(triton_to_np_dtype(name)) for name in _FIXED_SIZE}
LARGEST_MESSAGE = 2**31 - 1
"""Bytes: what tritonclient sets where it is given no channel arguments of one's own."""


def connection_options(keepalive: Keepalive, tls: Tls | None) -> dict[str, Any]:
    """The arguments of tritonclient's ``InferenceServerClient``, apart from its address.

    The channel's arguments are spelled out because gRPC waits up to two minutes before it reconnects to a
    server that was gone for long; given any, tritonclient leaves out its own, which are therefore repeated.
    Where a name leads to several servers, as that of a headless Service does, they are taken in turn, and the
    name is looked up anew whenever one ends a connection.
    """
    options: dict[str, Any] = {
        "channel_args": [
            ("grpc.max_send_message_length", LARGEST_MESSAGE),
            ("grpc.max_receive_message_length", LARGEST_MESSAGE),
            ("grpc.keepalive_time_ms", round(keepalive.interval * 1000)),
            ("grpc.keepalive_timeout_ms", round(keepalive.timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", int(keepalive.without_calls)),
            ("grpc.http2.max_pings_without_data", 0 if keepalive.without_calls else 2),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.dns_min_time_between_resolutions_ms", 1000),
        ]
    }
    if tls is not None:
        options |= {
            "ssl": True,
            "root_certificates": tls.root_certificates,
            "private_key": tls.private_key,
            "certificate_chain": tls.certificate_chain,
        }
    return options


def infer_arguments(
    model: Model, inputs: Arrays, timeout: float, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    """The arguments of tritonclient's ``infer``.

    `timeout`, in seconds, limits the wait here and travels as the request's deadline, so that stages do
    not work for somebody who has given up. No outputs are named, which asks for all of them.
    """
    dtypes = {tensor.name: tensor.dtype for tensor in model.inputs}
    tensors = []
    for name, array in inputs.items():
        tensor = InferInput(name, list(array.shape), dtypes[name])
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return {
        "model_name": model.name,
        "inputs": tensors,
        "parameters": {contract.DEADLINE: int((time.time() + timeout) * 1000)},
        "client_timeout": timeout,
        "headers": None if headers is None else dict(headers),
    }


def arrays(result: InferResult) -> Arrays:
    """The outputs of `result` by name."""
    response = result.get_response()
    # as_numpy() would search the response from its beginning for each of them.
    return {
        output.name: np.ndarray(tuple(output.shape), _DTYPES[output.datatype], content)
        for output, content in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def model_shape(response: Any, model: Model) -> ModelShape | Failure:
    """The shape in the answer of ``get_model_config``, or a Failure where it is not such a model."""
    config = response.config
    widths = {
        tensor.name: tensor.dims[0]
        for tensor in (*config.input, *config.output)
        if len(tensor.dims) == 1 and tensor.dims[0] > 0
    }
    if missing := [tensor.name for tensor in (*model.inputs, *model.outputs) if tensor.name not in widths]:
        return Failure(
            "FAILED_PRECONDITION",
            f"the model {config.name!r} does not keep tritonrec's contract: it lacks {', '.join(missing)}",
        )
    return ModelShape(widths, max(1, config.max_batch_size))


def failure(error: InferenceServerException) -> Failure:
    """What `error` says, with gRPC's name of its status.

    A server that is stopping unloads its models and answers NOT_FOUND for them meanwhile, for seconds; that
    is as good a reason to ask another server as UNAVAILABLE, and becomes it. A model that the server never
    heard of stays NOT_FOUND.
    """
    status = (error.status() or "UNKNOWN").removeprefix("StatusCode.")
    words = error.message() or "no message"
    if status == "NOT_FOUND" and words.endswith(UNLOADED):
        status = "UNAVAILABLE"
    if f"{contract.DEADLINE}: found" in words:
        status = "DEADLINE_EXCEEDED"  # a stage saw that the answer would come too late
    return Failure(status, words)
