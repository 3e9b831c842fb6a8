"""Callers that ask a server and wait for the answer, over gRPC without a client library in between.

What takes a client library its time is not the server's: requests are put into bytes once, and answers are
not taken out of theirs. As a program it is a closed loop in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonrec_client.contract import MODELS

PATIENCE = 30.0
"""Seconds that one answer may take."""


def request_of(model: str, name: str, tensors: Mapping[str, NDArray[Any]]) -> Any:
    """A request to the server's model `name`, which is the contract's `model`, with all rows of `tensors`."""
    request = service_pb2.ModelInferRequest(model_name=name)
    for tensor in MODELS[model].inputs:
        array = tensors[tensor.name]
        request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=array.shape)
        request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    return request


def rows_of(tensors: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """Each row of `tensors` by itself, ``[1, width]``."""
    count = len(next(iter(tensors.values())))
    return [{name: array[row : row + 1] for name, array in tensors.items()} for row in range(count)]


class Caller:
    """One connection to the server at `address`, for one request at a time."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __call__(self, request: Any) -> Any:
        """The server's answer. Raises grpc.RpcError."""
        return self._stub.ModelInfer(request, timeout=PATIENCE)

    def close(self) -> None:
        self._channel.close()


def closed_loop(
    address: str,
    model: str,
    name: str,
    tensors: Mapping[str, NDArray[Any]],
    folder: Path,
    *,
    processes: int,
    outstanding: int,
    seconds: float,
) -> tuple[float, NDArray[np.float64]]:
    """Answers per second, and each one's seconds, of `processes` programs with `outstanding` requests each.

    `folder` is for what they are told. Raises RuntimeError where a request failed.
    """
    path = folder / f"{name}.npz"
    np.savez(path, **dict(tensors))
    words = [address, model, name, str(path), "--outstanding", str(outstanding), "--seconds", str(seconds)]
    command = [sys.executable, "-m", "tools.gpu.caller", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    try:
        answers = [process.communicate(timeout=seconds + 2 * PATIENCE) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, problem) in zip(running, answers, strict=True):
        if process.returncode:
            raise RuntimeError(f"a caller failed: {(problem.strip() or 'no word').splitlines()[-1]}")
    found = [json.loads(output) for output, _ in answers]
    return sum(each["rate"] for each in found), np.concatenate([each["seconds"] for each in found])


async def _loop(
    address: str, requests: Sequence[Any], outstanding: int, seconds: float
) -> tuple[float, list[float]]:
    took: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        begin = time.perf_counter()

        async def call(number: int) -> None:
            while (sent := time.perf_counter()) - begin < seconds:
                await stub.ModelInfer(requests[number % len(requests)], timeout=PATIENCE)
                took.append(time.perf_counter() - sent)
                number += outstanding

        await asyncio.gather(*(call(number) for number in range(outstanding)))
        return len(took) / (time.perf_counter() - begin), took


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask for a while, then print the rate and each answer's time as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.caller", description=__doc__)
    for name in ("address", "model", "name", "path"):
        parser.add_argument(name)
    parser.add_argument("--outstanding", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args(arguments)
    with np.load(options.path) as file:
        tensors = {name: file[name] for name in file.files}
    requests = [request_of(options.model, options.name, row) for row in rows_of(tensors)]
    rate, took = asyncio.run(_loop(options.address, requests, options.outstanding, options.seconds))
    json.dump({"rate": rate, "seconds": took}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
