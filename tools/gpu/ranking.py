"""How long the models take on the device, and how much of its arithmetic they use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_backend.gpu.programs import FOLDER, QUERY, RANK, load_program
from python_backend.release import Release
from tools.gpu.clock import Clock
from tools.gpu.flops import count_flops
from tools.gpu.rows import Row

NAME = "ranking"
PROGRAMS = {"query": QUERY, "rank": RANK}
BATCHES = (1, 8, 64)


def rows_of(batches: Sequence[int]) -> dict[str, Row]:
    """The lines of the table, without figures, by key."""
    return {
        f"{program} {batch}": Row(NAME, f"{program}, batch {batch}", "ms")
        for program in PROGRAMS
        for batch in batches
    }


def measure(
    clock: Clock, release: Release, inputs: Mapping[str, NDArray[Any]], batches: Sequence[int] = BATCHES
) -> list[dict[str, Any]]:
    """Milliseconds and TFLOP/s of both programs for rows of `inputs`, which has as many as the largest batch.

    Operations are those of matrix products (`count_flops`), so a program that gathers and normalises much
    has fewer of them a second than it keeps the card busy.
    """
    device = clock.card.device
    programs = {
        name: load_program(release.artifacts / FOLDER / file, device) for name, file in PROGRAMS.items()
    }
    width = _width(programs["query"])
    figures = []
    for batch in batches:
        rows = {name: torch.from_numpy(array[:batch]).to(device) for name, array in inputs.items()}
        asked = _asked(rows, width, release.sizes.candidates)
        works: dict[str, Callable[[], Any]] = {
            name: partial(program, **asked[name]) for name, program in programs.items()
        }
        with torch.inference_mode():
            graphs = {name: clock.captured(work) for name, work in works.items()}
            seconds = clock.in_turns({name: work for name, (work, _) in graphs.items()})
        for name, took in seconds.items():
            flops, median = count_flops(works[name]), float(np.median(took))
            figures.append(
                {
                    "program": name,
                    "batch": batch,
                    "ms": 1000 * median,
                    "GFLOP": flops / 1e9,
                    "TFLOP/s": flops / median / 1e12,
                    "graph": graphs[name][1],
                    "precision": _precision(programs[name]),
                }
            )
    return figures


def filled(figures: Sequence[Mapping[str, Any]], *, on_gpu: bool) -> dict[str, Row]:
    """The rows with what was measured."""
    rows = rows_of(sorted({each["batch"] for each in figures}))
    for each in figures:
        note = f"{each['GFLOP']:.3g} GFLOP, {each['TFLOP/s']:.3g} TFLOP/s, weights {each['precision']}"
        key = f"{each['program']} {each['batch']}"
        rows[key] = rows[key].found(each["ms"], on_gpu=on_gpu, note=note)
    return rows


def _asked(rows: Mapping[str, Tensor], width: int, candidates: int) -> dict[str, dict[str, Tensor]]:
    """The programs' arguments; histories' vectors and candidates are made up, and cost the same."""
    users, history = rows["user_features"], rows["history"]
    random = torch.Generator(history.device).manual_seed(1)
    batch = len(history)
    most = max(int(history.max()), candidates)
    candidate = torch.rand(batch, most, generator=random, device=history.device).topk(candidates).indices + 1
    score = -torch.rand(batch, candidates, generator=random, device=history.device).sort().values * 10
    vectors = torch.randn(*history.shape, width, generator=random, device=history.device)
    return {
        "query": {"user_features": users, "history": history, "history_vectors": vectors},
        "rank": {
            "user_features": users,
            "history": history,
            "candidate": candidate.clamp(max=int(history.max())).int(),
            "retrieval_score": score,
        },
    }


def _width(program: Any) -> int:
    """The width of item vectors, from the tower's table of positions ``[L, d]``."""
    return int(next(p for name, p in program.named_parameters() if name.endswith("positions")).shape[-1])


def _precision(program: Any) -> str:
    """The dtype of most of a program's numbers."""
    sizes: dict[str, int] = {}
    for tensor in (*program.parameters(), *program.buffers()):
        if tensor.is_floating_point():
            name = str(tensor.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + tensor.numel()
    return max(sizes, key=lambda name: sizes[name])
