"""The whole benchmark: its sections in order, each with the rows that it fills."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonrec_client.contract import RECOMMEND, RETRIEVE_AND_RANK

from tools.gpu.clock import copy_bandwidth
from tools.gpu.rows import FAILED, NOT_RUN, Goal, Row
from tools.gpu.sections import Bench, Figures, Say, Section

CLIENT = ("tritonclient", "grpc", "google.protobuf", "rapidjson", "ml_dtypes", "packaging")
SERVER = ("pytriton", *CLIENT, "pydantic", "threadpoolctl", "prometheus_client")
STORE = ("lmdb", "msgpack")
MAKING_UP = ("pandas", "pyarrow", "scipy", "numba", "pydantic", "tritonclient", *STORE)
"""What made-up models take of the libraries that a build needs."""
RESERVED = 150.0
"""Seconds that retrieval leaves for what comes after it."""

Found = tuple[Figures, Mapping[str, Row]]


def sections_of(*, quick: bool) -> list[Section]:
    """Every section; with `quick` on small catalogues."""
    from tools.gpu import parity, ranking, retrieval, tensorrt

    plan = retrieval.Plan((2_000, 40_000), (64,), (1, 3), 100, 1 << 24) if quick else retrieval.Plan()
    batches = (1, 2) if quick else ranking.BATCHES

    def copy(bench: Bench, rows: Mapping[str, Row], say: Say) -> Found:
        bandwidth = copy_bandwidth(bench.clock, plan.copy_bytes)
        row = rows["copy"].found(bandwidth / 1e9, on_gpu=bench.card.is_gpu)
        return {"bytes per second": bandwidth}, {"copy": row}

    def compare(bench: Bench, rows: Mapping[str, Row], say: Say) -> Found:
        from tools.gpu.serving import stage_requests

        release, _ = bench.release
        say(f"release {release.name}")
        inputs = stage_requests(release, _items(release.artifacts), 3 if quick else 64, bench.seed)
        figures: Figures = {}
        found: dict[str, Row] = {}
        reference = parity.Reference(release)
        for scan in ("fp16", "int8"):
            figures[scan] = reference.compare(bench.stage(scan), inputs)
            for key, value in figures[scan].items():
                row = rows[key].found(value, on_gpu=True)
                if key not in found or _worse(row, found[key]):
                    found[key] = row
        if "rank" not in found:
            found["rank"] = rows["rank"].without(NOT_RUN + "needs onnxruntime, for the ranker in float32")
        return figures, found

    def retrieve(bench: Bench, rows: Mapping[str, Row], say: Say) -> Found:
        figures: list[dict[str, Any]] = []
        ended = NOT_RUN + "no time was left"
        try:
            for each in retrieval.measure(bench.clock, plan, seed=bench.seed, until=bench.until - RESERVED):
                say(
                    f"{each['items']:,} items, d = {each['width']}, batch {each['batch']}: "
                    + ", ".join(f"{name} {each[f'{name} ms']:.3g} ms" for name in ("fp16", "int8", "product"))
                )
                figures.append(each)
        except Exception as error:  # what was measured before it stands
            if not figures:
                raise
            ended = f"{FAILED}{type(error).__name__}: {(str(error).strip() or 'no word').splitlines()[0]}"
            say(ended)
        found = retrieval.filled(dict(rows), figures, on_gpu=bench.card.is_gpu, ended=ended)
        return {"figures": figures, "candidates": plan.candidates}, found

    def rank(bench: Bench, rows: Mapping[str, Row], say: Say) -> Found:
        from tools.gpu.serving import stage_requests

        release, _ = bench.release
        inputs = stage_requests(release, _items(release.artifacts), max(batches), bench.seed)
        figures = ranking.measure(bench.clock, release, inputs, batches)
        return {"figures": figures}, ranking.filled(figures, on_gpu=bench.card.is_gpu)

    def plans(bench: Bench, rows: Mapping[str, Row], say: Say) -> Found:
        from tools.gpu.serving import stage_requests

        release, _ = bench.release
        if not bench.card.is_gpu or not (release.artifacts / "gpu").is_dir():
            needs = "a release that was built with --profile gpu (--release), and a GPU"
            return {}, {key: row.without(NOT_RUN + f"needs {needs}") for key, row in rows.items()}
        inputs = stage_requests(release, _items(release.artifacts), max(tensorrt.BATCHES), bench.seed)
        figures = tensorrt.measure(bench.clock, release, inputs, bench.folder)
        found = {
            f"{each['stage']} {each['batch']}": rows[f"{each['stage']} {each['batch']}"].found(
                each["ms"], on_gpu=True
            )
            for each in figures
        }
        return {"figures": figures}, found

    return [
        Section("copy", {"copy": Row("copy", "bytes read + written ÷ time", "GB/s")}, copy),
        Section(parity.NAME, parity.ROWS, compare, CLIENT, MAKING_UP),
        Section(retrieval.NAME, plan.rows(), retrieve),
        Section(ranking.NAME, ranking.rows_of(batches), rank, CLIENT, MAKING_UP),
        Section("serving", SERVING, serve, SERVER, MAKING_UP),
        Section(tensorrt.NAME, tensorrt.ROWS, plans, ("tensorrt",), MAKING_UP),
    ]


SERVING = {
    "difference": Row(
        "serving",
        "retrieve and rank as one model, gRPC: served p50 − bare p50",
        "ms",
        goal=Goal(0.5, at_most=True, words="≤ 0.5, better 0.3"),
    ),
    "p50": Row("serving", "recommend, one caller: p50", "ms"),
    "p99": Row("serving", "recommend, one caller: p99", "ms"),
    "rate": Row("serving", "recommend, many callers", "requests/s"),
    "busy": Row("serving", "recommend, many callers: p99", "ms"),
}


def serve(bench: Bench, rows: Mapping[str, Row], say: Say) -> Found:
    """Both measurements on one server: the stage by itself, and pages from end to end."""
    from tools.gpu.sections import is_there
    from tools.gpu.serving import Load, added_by_serving, page_requests, pages, server_of, stage_requests

    release, store_url = bench.release
    device, on_gpu = bench.card.device.type, bench.card.is_gpu
    load = Load(2, 10, 1, 2, 0.5) if bench.quick else Load()
    stage = f"{RETRIEVE_AND_RANK.name}_{release.name}"
    has_store = all(is_there(module) for module in STORE)
    models = [RECOMMEND.name] if has_store else [stage]
    inputs = stage_requests(release, _items(release.artifacts), 256, bench.seed)
    bare = bench.stage("fp16")
    say("starting Triton")
    found: dict[str, Row] = {}
    figures: Figures = {}
    began = time.perf_counter()
    with server_of(release, bench.folder, store_url=store_url, device=device, models=models) as server:
        figures["seconds to start"] = time.perf_counter() - began
        say("served and bare, in turns")
        added = figures["stage"] = added_by_serving(server.address, release, bare, inputs, load)
        note = f"served {added['served p50 ms']:.3g} ms, bare {added['bare p50 ms']:.3g} ms"
        found["difference"] = rows["difference"].found(added["difference ms"], on_gpu=on_gpu, note=note)
        if not has_store:
            why = NOT_RUN + "needs " + " and ".join(STORE)
            return figures, found | {key: row.without(why) for key, row in rows.items() if key not in found}
        say("pages, one caller and then many")
        users = np.random.default_rng(bench.seed).permutation(np.arange(1, 2001))
        asked = page_requests(users[:1000], release.sizes)
        end = figures["pages"] = pages(server.address, asked, load, bench.folder)
    for key, name in (("p50", "p50 ms"), ("p99", "p99 ms")):
        found[key] = rows[key].found(end[name], on_gpu=on_gpu)
    callers = f"{end['callers']:.0f} callers on the same machine, each waiting for its answer"
    found["rate"] = rows["rate"].found(end["requests/s"], on_gpu=on_gpu, note=callers)
    found["busy"] = rows["busy"].found(end["p99 ms under load"], on_gpu=on_gpu)
    return figures, found


def _worse(row: Row, other: Row) -> bool:
    """Whether `row` has the less good figure of the two."""
    if row.goal is None or row.value is None or other.value is None:
        return row.value is None
    return row.value > other.value if row.goal.at_most else row.value < other.value


def _items(artifacts: Any) -> int:
    """How many items a release has."""
    with np.load(artifacts / "items.npz") as arrays:
        return len(arrays["wire_id"]) - 1
