"""From end to end: the profile gpu_torch on the real Triton, and what serving adds to the stage itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import DEFAULT_DIVERSITY, PADDING_ID, RECOMMEND, RETRIEVE_AND_RANK, Sizes

from python_backend.release import Release
from tools.gpu.caller import Caller, closed_loop, request_of, rows_of
from tools.serving.device import DEVICE
from tools.serving.repository import write_served_repository
from tools.serving.server import GPU_TORCH, TritonServer, ask_anonymously

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Load:
    """How much is asked.

    Attributes:
        repeats: how often served and bare take turns.
        requests: of each in one turn.
        processes, outstanding: callers of the closed loop, and requests that each waits for.
        seconds: how long the closed loop asks.
    """

    repeats: int = 7
    requests: int = 300
    processes: int = 4
    outstanding: int = 16
    seconds: float = 5.0


def server_of(
    release: Release, folder: Path, *, store_url: str | None, device: str, models: Sequence[str]
) -> TritonServer:
    """A server of `release` in the profile gpu_torch, not yet started, that loads `models`."""
    overrides = {DEVICE: device} | ({"store_url": store_url} if store_url else {})
    write_served_repository([release.path.resolve()], release.name, folder / "served", overrides=overrides)
    return TritonServer(
        folder / "served",
        log=folder / "triton.log",
        backends=folder / "backends",
        models=models,
        profile=GPU_TORCH,
        check=lambda client: ask_anonymously(client, models[0]),
        # PyTorch alone takes seconds to load, and a graph is captured for each batch size.
        timeout=240.0,
    )


def stage_requests(release: Release, n_items: int, count: int, seed: int) -> dict[str, NDArray[Any]]:
    """`count` users as `retrieve_and_rank` gets them, with histories of every length and without features."""
    random, sizes = np.random.default_rng(seed), release.sizes
    length = random.integers(0, sizes.history + 1, count)[:, None]
    items = random.integers(1, n_items + 1, (count, sizes.history), dtype=np.int32)
    history = np.where(np.arange(sizes.history) >= sizes.history - length, items, 0)
    seen = np.zeros((count, sizes.seen), np.int32)
    width = min(sizes.history, sizes.seen)
    seen[:, :width] = history[:, -width:]
    return {
        "user_features": np.zeros((count, sizes.user_features), np.int32),
        "history": history.astype(np.int32),
        "seen": seen,
    }


def page_requests(users: NDArray[np.int64], sizes: Sizes) -> dict[str, NDArray[Any]]:
    """Requests for the pages of `users` int64 ``[U]``, without a session."""
    return {
        "user_id": users[:, None],
        "session_items": np.full((len(users), sizes.session), PADDING_ID, np.int64),
        "diversity": np.full((len(users), 1), DEFAULT_DIVERSITY, np.float32),
    }


def added_by_serving(
    address: str, release: Release, bare: Callable[[Tensors], object], tensors: Tensors, load: Load
) -> dict[str, float]:
    """Milliseconds at the median of `retrieve_and_rank` over gRPC, of `bare`, and their difference.

    `bare` is the same stage in this process, called with rows of `tensors`. The two take turns, and the
    difference is that of one turn's medians; a first turn is left out.
    """
    name = f"{RETRIEVE_AND_RANK.name}_{release.name}"
    rows = rows_of(tensors)
    requests = [request_of(RETRIEVE_AND_RANK.name, name, row) for row in rows]
    caller = Caller(address)
    turns = []
    try:
        for _ in range(load.repeats + 1):
            turns.append([_median_ms(caller, requests, load.requests), _median_ms(bare, rows, load.requests)])
    finally:
        caller.close()
    served, alone = np.array(turns[1:]).T
    return {
        "served p50 ms": float(np.median(served)),
        "bare p50 ms": float(np.median(alone)),
        "difference ms": float(np.median(served - alone)),
    }


def pages(address: str, tensors: Tensors, load: Load, folder: Path) -> dict[str, float]:
    """What `recommend` takes alone, in milliseconds, and under a closed loop of many callers."""
    requests = [request_of(RECOMMEND.name, RECOMMEND.name, row) for row in rows_of(tensors)]
    caller = Caller(address)
    try:
        for request in requests[:20]:
            caller(request)
        alone = _times_ms(caller, requests, load.repeats * load.requests)
    finally:
        caller.close()
    rate, took = closed_loop(
        address,
        RECOMMEND.name,
        RECOMMEND.name,
        tensors,
        folder,
        processes=load.processes,
        outstanding=load.outstanding,
        seconds=load.seconds,
    )
    busy = 1000 * took
    return {
        "p50 ms": float(np.median(alone)),
        "p99 ms": float(np.percentile(alone, 99)),
        "requests/s": rate,
        "p50 ms under load": float(np.median(busy)),
        "p99 ms under load": float(np.percentile(busy, 99)),
        "callers": load.processes * load.outstanding,
    }


def _times_ms(work: Callable[[Any], object], asked: Sequence[Any], count: int) -> list[float]:
    milliseconds = []
    for number in range(count):
        began = time.perf_counter()
        work(asked[number % len(asked)])
        milliseconds.append(1000 * (time.perf_counter() - began))
    return milliseconds


def _median_ms(work: Callable[[Any], object], asked: Sequence[Any], count: int) -> float:
    return float(np.median(_times_ms(work, asked, count)))
