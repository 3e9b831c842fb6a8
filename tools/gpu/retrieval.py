"""Exact retrieval beside the card's own copy, and beside one matrix product with `torch.topk`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from python_backend.gpu.search import GpuSearch
from tools.gpu.catalogue import Catalogue, whole_product
from tools.gpu.clock import Clock, Work
from tools.gpu.device_index import DeviceIndex
from tools.gpu.rows import Goal, Row

NAME = "retrieval"
SCANS: tuple[Literal["fp16", "int8"], ...] = ("fp16", "int8")
OF_COPY = {1_000_000: 0.6, 10_000_000: 0.8}
"""Bytes of the index ÷ time, in float16 and one query at once, as a part of the copy's bandwidth: the goals
by number of items."""
FEW = 8
"""Batches up to this one are to be `FASTER` than the product; larger ones no slower."""
FASTER = 1.5
AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What is measured: every combination of the three, for `candidates` items per query."""

    items: Sequence[int] = (100_000, 1_000_000, 10_000_000)
    widths: Sequence[int] = (64, 128)
    batches: Sequence[int] = (1, 8, 64)
    candidates: int = 500
    copy_bytes: int = 1 << 30

    def rows(self) -> dict[str, Row]:
        """The lines of the table, without figures, by key."""
        rows = {}
        for items, width in product(self.items, self.widths):
            goal = OF_COPY.get(items)
            rows[f"copy {items} {width}"] = Row(
                NAME,
                f"FP16, batch 1, {items:,} items, d = {width}: index bytes ÷ time ÷ copy",
                goal=Goal(goal) if goal else None,
            )
        few = [batch for batch in self.batches if batch <= FEW]
        if few:
            rows["few"] = Row(
                NAME,
                f"FP16 against matmul + topk, batch {_range(few)}: the least",
                "×",
                goal=Goal(FASTER),
            )
        rows["all"] = Row(
            NAME, f"FP16 against matmul + topk, batch {_range(self.batches)}: the least", "×", goal=Goal(1.0)
        )
        for scan in SCANS:
            rows[f"exact {scan}"] = Row(
                NAME,
                f"{scan.upper()}: candidates that the float32 list has, ties aside: the least",
                goal=Goal(1.0, words="all"),
            )
        return rows


def measure(clock: Clock, plan: Plan, *, seed: int = 1, until: float = np.inf) -> Iterator[dict[str, Any]]:
    """The figures of each combination of items, width and batch, small catalogues first.

    Stops before a catalogue that would begin after `until`, on the clock of `time.perf_counter`.
    """
    card = clock.card
    source = torch.ones(plan.copy_bytes // 4, device=card.device)
    target = torch.empty_like(source)
    for items, width in product(plan.items, plan.widths):
        if time.perf_counter() > until:
            return
        catalogue = Catalogue.of(items, width, card.device, seed)
        index: Any = DeviceIndex.of(catalogue)
        searches: dict[str, GpuSearch] = {
            scan: GpuSearch(index, candidates=plan.candidates, device=card.device, scan=scan)
            for scan in SCANS
        }
        if searches["fp16"].fused:
            # What the fused kernels are worth.
            searches["operators"] = GpuSearch(
                index, candidates=plan.candidates, device=card.device, fused=False
            )
        del index
        dtype = torch.float16 if card.is_gpu else torch.float32
        vectors, bias = catalogue.vectors.to(dtype), catalogue.bias.to(dtype)
        for batch in plan.batches:
            queries, seen = catalogue.draw(batch, seed)
            asked = (vectors, bias, queries.to(dtype), seen, plan.candidates)
            works: dict[str, Callable[[], Any]] = {
                **{name: partial(search, queries, seen) for name, search in searches.items()},
                "product": partial(whole_product, *asked),
            }
            figures: dict[str, Any] = {"items": items, "width": width, "batch": batch}
            figures["fused"] = searches["fp16"].fused
            exact = float_list(catalogue, queries, seen, plan.candidates)
            for name, search in searches.items():
                answer = search(queries, seen)
                certain = answer.certain.unsqueeze(1)
                best = torch.where(certain, answer.items, search.exactly(queries, seen).items)
                figures[f"{name} certain"] = float(certain.float().mean())
                figures[f"{name} exact"] = agreement(best, exact)
            graphs = {name: clock.captured(work) for name, work in works.items()}
            run: dict[str, Work] = {"copy": partial(target.copy_, source)}
            run |= {name: work for name, (work, _) in graphs.items()}
            seconds = clock.in_turns(run)
            figures |= {f"{name} ms": 1000 * float(np.median(took)) for name, took in seconds.items()}
            figures["graphs"] = [name for name, (_, captured) in graphs.items() if captured]
            copy = 2 * source.nbytes / seconds["copy"]
            for name, search in searches.items():
                figures[f"{name} of copy"] = _median(search.bytes_scanned / seconds[name] / copy)
                figures[f"{name} speed-up"] = _median(seconds["product"] / seconds[name])
            yield figures
            del works, run, graphs
        del searches, vectors, bias, catalogue
        card.release_memory()


def filled(
    rows: dict[str, Row], figures: Sequence[dict[str, Any]], *, on_gpu: bool, ended: str
) -> dict[str, Row]:
    """`rows` of a plan with what was measured; for those without a figure `ended` says why."""
    found = {key: row.without(ended) for key, row in rows.items()}
    for each in figures:
        key = f"copy {each['items']} {each['width']}"
        if each["batch"] == 1:
            by = "fused kernels" if each["fused"] else "PyTorch's operators"
            ours = f"{each['fp16 ms']:.3g} ms by {by}; matmul + topk {each['product ms']:.3g} ms"
            found[key] = rows[key].found(each["fp16 of copy"], on_gpu=on_gpu, note=ours)
    for key, batches in (("few", FEW), ("all", np.inf)):
        some = [each for each in figures if each["batch"] <= batches]
        if some and key in rows:
            least = min(some, key=lambda each: each["fp16 speed-up"])
            where = f"at {least['items']:,} items, d = {least['width']}, batch {least['batch']}"
            found[key] = rows[key].found(least["fp16 speed-up"], on_gpu=on_gpu, note=where)
    for scan in SCANS:
        if figures:
            least = min(each[f"{scan} exact"] for each in figures)
            # What is found does not depend on the device.
            certain = min(each[f"{scan} certain"] for each in figures)
            note = f"at least {certain:.0%} of the lists proved by the first pass"
            found[f"exact {scan}"] = rows[f"exact {scan}"].found(least, on_gpu=True, note=note)
    return found


def float_list(
    catalogue: Catalogue, queries: Tensor, seen: Tensor, candidates: int
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """The best unseen items by float32 scores, int64 ``[B, K]``, their scores, and any items' scores.

    The vectors are taken to float32 a part at a time, so that ten million of them need no room.
    """
    best = torch.full((len(queries), 0), -torch.inf, device=queries.device)
    items = torch.zeros(best.shape, dtype=torch.int64, device=queries.device)
    n = len(catalogue.vectors)
    for begin in range(0, n, AT_ONCE):
        part = slice(begin, min(begin + AT_ONCE, n))
        scores = queries @ catalogue.vectors[part].float().T + catalogue.bias[part]
        hidden = torch.where((seen >= begin) & (seen < part.stop), seen.long() - begin, 0)
        first = scores[:, 0].clone()
        scores.scatter_(1, hidden, -torch.inf)
        # Place 0 stood for everything outside the part.
        scores[:, 0] = torch.where((seen == begin).any(dim=1) | (begin == 0), -torch.inf, first)
        here = scores.topk(min(candidates, scores.shape[1]), dim=1)
        best = torch.cat([best, here.values], dim=1)
        items = torch.cat([items, here.indices + begin], dim=1)
        best, place = best.topk(min(candidates, best.shape[1]), dim=1)
        items = items.gather(1, place)

    def score(found: Tensor) -> Tensor:
        chosen = catalogue.vectors[found.long()].float()
        return (chosen * queries[:, None]).sum(dim=2) + catalogue.bias[found.long()]

    return items, best, score


def agreement(found: Tensor, wanted: tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]) -> float:
    """The share of items ``[B, K]`` in `found` that the float32 list has, or that tie with its last.

    Scores tie where they differ by no more than float32 sums may, taken in another order.
    """
    items, best, score = wanted
    known = (found.long()[:, :, None] == items[:, None, :]).any(dim=2)
    last = best[:, -1:]
    tied = score(found) >= last - 1e-5 * last.abs().clamp(min=1)
    distinct = torch.tensor([len(row.unique()) == len(row) for row in found], device=found.device)
    return float(((known | tied) & distinct[:, None]).float().mean())


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))


def _range(batches: Sequence[int]) -> str:
    return f"{min(batches)} to {max(batches)}" if len(set(batches)) > 1 else f"{batches[0]}"
