"""A draft on a real Triton, before it gets a name: what it answers, and whether that is right."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import RECOMMEND

from python_backend.pipeline import Pipeline
from python_backend.plan import Plan
from python_backend.release import Release
from python_backend.stores import open_store
from tools.checks import Agreement, compare_pages, require_agreement, require_same_inputs
from tools.config.build import BuildConfig
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions
from tools.data.store import fill_store
from tools.evaluation.evaluation import RANK, RERANK, RERANK_DEFAULT, RETRIEVE
from tools.evaluation.served import BATCH, ServedLists, Tensors, fetch_lists, fetch_pages, requests_of
from tools.progress import Update
from tools.releases.golden import golden_sessions, write_golden
from tools.releases.planning import KEPT
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer, ask_anonymously
from tools.training.features import Features
from tools.training.windows import last_histories


@dataclass(frozen=True)
class Trial:
    """What a draft answered to every user of the data.

    Attributes:
        served: its lists.
        agreement: how they agree with those of the stages in this process.
        active: the pages at diversity 0 of the release that it would replace, if there is one, from the
            same store.
    """

    served: ServedLists
    agreement: Agreement
    active: Tensors | None


def try_out(
    draft: Release,
    active: Release | None,
    *,
    config: BuildConfig,
    dataset: Dataset,
    features: Features,
    histories: Interactions,
    update: Update,
) -> Trial:
    """Serve `draft`, and `active` beside it, from a store that knows `histories` alone; ask for every user.

    Writes the draft's golden requests. Raises CheckFailed where it answers otherwise than its stages do in
    this process, or from other inputs than it was trained on, and ServerUnavailableError.
    """
    # Beside the draft, so that what a killed build leaves goes with it.
    with tempfile.TemporaryDirectory(dir=draft.path.parent) as temporary:
        folder = Path(temporary).resolve()
        url = f"lmdb://{folder / 'store'}"
        store = open_store(url)
        fill_store(store, histories, dataset.user_features)
        store.close()
        # Twenty times the usual patience: a slow disk must not turn a measurement into a degraded answer.
        options = {"store_url": url, "store_timeout_ms": "1000"}
        releases = [draft] if active is None else [draft, active]
        write_served_repository(
            [release.path for release in releases], draft.name, folder / "served", overrides=options
        )
        users, plan = histories.user_ids, Plan.of(draft)
        with (
            ThreadPoolExecutor(2) as meanwhile,
            TritonServer(
                folder / "served",
                log=config.output / "triton-build.log",
                backends=config.output / "backends",
                models=[
                    *(f"{RECOMMEND.name}_{release.name}" for release in releases),
                    *(f"{step.model}_{draft.name}" for step in plan.steps),
                ],
                check=lambda client: ask_anonymously(client, f"{RECOMMEND.name}_{draft.name}"),
            ) as server,
        ):
            in_process = meanwhile.submit(_pages_in_process, draft, users, options)
            asking = active and meanwhile.submit(
                fetch_pages, server.address, active.name, users, active.sizes, 0.0
            )
            served = fetch_lists(
                server.address,
                draft.name,
                users,
                draft.sizes,
                plan,
                lambda done, total: update(done, total, "users"),
            )
            with server.client() as client:
                write_golden(
                    draft.path, client, draft, golden_sessions(histories, longest=draft.sizes.session)
                )
            active_pages = asking.result() if asking else None
    agreement = compare_pages(served.plain, in_process.result())
    require_agreement("served pages and the stages called in process", agreement)
    require_agreement(
        "recommend and the stages' own models, asked one by one", compare_pages(served.plain, served.stages)
    )
    history = last_histories(histories, draft.sizes.history)
    require_same_inputs(served.stages, {"user_features": features.users, "history": history})
    return Trial(served, agreement, active_pages)


def _pages_in_process(
    release: Release, users: NDArray[np.int64], options: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """The pages of `users`, int64 ``[U]`` wire ids, from the stages in this process."""
    pipeline = Pipeline.load(release, options)
    requests = requests_of(users, release.sizes, 0.0)
    parts = [
        pipeline({name: rows[begin : begin + BATCH] for name, rows in requests.items()})
        for begin in range(0, len(users), BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in ("item_id", "score")}


def stage_lists(dataset: Dataset, served: ServedLists) -> dict[str, NDArray[np.int32]]:
    """The served lists as item indices, best first, in the order of the pipeline."""
    candidate, score = served.stages["candidate"], served.stages["rank_score"]
    # Where a light ranker has a first look, these are what the others score.
    kept = served.stages.get(f"candidate{KEPT}", candidate)
    order = np.argsort(-score, axis=1, kind="stable")
    return {
        RETRIEVE: candidate,
        RANK: np.take_along_axis(kept, order, axis=1),
        RERANK: _indices(dataset, served.plain["item_id"]),
        RERANK_DEFAULT: _indices(dataset, served.varied["item_id"]),
    }


def _indices(dataset: Dataset, wire_ids: NDArray[np.int64]) -> NDArray[Any]:
    known = dataset.interactions.item_ids
    order = np.argsort(known)
    return order[np.searchsorted(known, wire_ids, sorter=order)].astype(np.int32)
