"""The whole way from a data set to a release, step by step."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import MODELS

from python_backend.pipeline import Pipeline
from python_backend.release import Release
from python_backend.stores import open_store
from tools.checks import Agreement, compare_pages, require_agreement, require_same_inputs
from tools.config.build import BuildConfig
from tools.data.dataset import Dataset
from tools.data.split import LEAST_EVENTS, Split, leave_one_out
from tools.data.store import fill_store
from tools.evaluation.baselines import baseline_lists
from tools.evaluation.evaluation import RANK, RERANK, RERANK_DEFAULT, RETRIEVE, Evaluation
from tools.evaluation.report import write_report
from tools.evaluation.served import BATCH, ServedLists, fetch_lists, requests_of
from tools.progress import Steps, Update
from tools.releases.artifacts import CODE, ROOT, unit_vectors, write_artifacts
from tools.releases.drafts import draft_in
from tools.releases.manifest import (
    combined_hash,
    file_hash,
    folder_hashes,
    library_versions,
    read_manifest,
    write_manifest,
)
from tools.releases.folder import find_releases
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer
from tools.training.features import Features
from tools.training.models import train_models
from tools.training.windows import last_histories

TRAINED_ON = (
    "Every event but the newest of each user, which is the test; users with fewer than 3 events are trained"
    " on whole. The shipped models are the measured ones: they were not trained again on the test events,"
    " but what is served sees them in the users' histories."
)


BUILDING = [
    ROOT / "tools" / room for room in ("config", "data", "evaluation", "releases", "serving", "training")
]
"""The rooms of tools/ that decide what is built; serving it or showing it off does not."""


def build_release(config: BuildConfig, dataset: Dataset, fingerprint: str, steps: Steps) -> Path:
    """Train on `dataset`, check what came out on a running server and write a release; its folder.

    `fingerprint` says what the release is built from (`fingerprint_of`). Nothing appears in
    ``config.output``/releases until every check has passed. Raises CheckFailed, GraphMismatch or
    ServerUnavailableError.
    """
    features = Features.of(dataset, config)
    split = leave_one_out(dataset.interactions)
    models = train_models(config, split.train_and_validation, features, steps.step)
    folder = config.output / "releases"
    with draft_in(folder) as draft:
        with steps.step("exporting graphs and item arrays"):
            write_artifacts(
                draft,
                dataset=dataset,
                histories=split.train_and_validation,
                features=features,
                retriever=models.retriever,
                ranker=models.ranker,
                rerank=config.rerank,
                sizes=config.sizes,
            )
            name = combined_hash([fingerprint, *map(str, folder_hashes(draft).items())])[:12]
            manifest = _manifest(name, config, dataset, fingerprint)
            write_manifest(draft, manifest)
        with steps.step("asking Triton for every user's page") as update:
            served, agreement = _serve(config, dataset, split, Release.open(draft), update)
            trained_on = {
                "user_features": features.users,
                "history": last_histories(split.train_and_validation, config.sizes.history),
            }
            require_same_inputs(served.stages, trained_on)
        with steps.step("baselines and report"):
            baselines = baseline_lists(split.train_and_validation, config.sizes.candidates, config.seed)
            evaluation = Evaluation(
                release=name,
                name=config.name,
                trained_on=TRAINED_ON,
                seed=config.seed,
                sizes=config.sizes,
                n_users=dataset.interactions.n_users,
                n_items=dataset.interactions.n_items,
                n_events=dataset.interactions.n_events,
                data_range=dataset.data_range,
                targets=split.test,
                history_lengths=split.train_and_validation.lengths,
                stages=_stage_lists(dataset, served),
                baselines=baselines.lists,
                skipped=baselines.skipped,
                popularity=split.train_and_validation.popularity(),
                item_vectors=unit_vectors(models.retriever),
                page_probability=served.plain["score"],
                curves=models.curves,
                timings=steps.timings,
                library_versions=library_versions(),
            )
            metrics = write_report(evaluation, draft / "report")
        manifest["metrics"] = metrics
        manifest["checks"] = {"served_is_in_process": asdict(agreement)}
        manifest["files"] = folder_hashes(draft)
        write_manifest(draft, manifest)
        release = folder / name
        if not release.exists():  # otherwise the very same release was built before
            draft.rename(release)
    return release


def fingerprint_of(config: BuildConfig) -> str:
    """What decides a build's outcome: configuration, data, code and library versions, as one hash."""
    tables = (config.data.events, config.data.items, config.data.users)
    data = [file_hash(table.path) for table in tables if table is not None and table.path.is_file()]
    code = [
        f"{path.relative_to(ROOT)} {file_hash(path)}"
        for folder in (*BUILDING, ROOT / "model_repository", *CODE.values())
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".pbtxt", ".jinja"}
    ]
    settings = config.model_dump_json(exclude={"output", "store"})
    return combined_hash([settings, *data, *code, *map(str, library_versions().items())])


def find_built(config: BuildConfig, fingerprint: str) -> Path | None:
    """The release that was built from `fingerprint` before, if there is one."""
    for release in reversed(find_releases(config.output)):
        if read_manifest(release.path).get("fingerprint") == fingerprint:
            return release.path
    return None


def _serve(
    config: BuildConfig, dataset: Dataset, split: Split, release: Release, update: Update
) -> tuple[ServedLists, Agreement]:
    """Every user's lists from a Triton that knows the events before the test, checked against the stages."""
    history = split.train_and_validation
    # Beside the draft, so that what a killed build leaves goes with it.
    with tempfile.TemporaryDirectory(dir=release.path.parent) as temporary:
        folder = Path(temporary).resolve()
        url = f"lmdb://{folder / 'store'}"
        store = open_store(url)
        fill_store(store, history, dataset.user_features)
        store.close()
        # Twenty times the usual patience: a slow disk must not turn a measurement into a degraded answer.
        options = {"store_url": url, "store_timeout_ms": "1000"}
        write_served_repository([release.path], release.name, folder / "served", overrides=options)
        with TritonServer(
            folder / "served", log=config.output / "triton-build.log", backends=config.output / "backends"
        ) as server:
            served = fetch_lists(
                server.address,
                release.name,
                history.user_ids,
                release.sizes,
                lambda done, total: update(done, total, "users"),
            )
        pipeline = Pipeline.load(release, options)
        requests = requests_of(history.user_ids, release.sizes, 0.0)
        pages = [
            pipeline({name: rows[begin : begin + BATCH] for name, rows in requests.items()})
            for begin in range(0, history.n_users, BATCH)
        ]
    in_process = {name: np.concatenate([page[name] for page in pages]) for name in ("item_id", "score")}
    agreement = compare_pages(served.plain, in_process)
    require_agreement("served pages and the stages called in process", agreement)
    require_agreement(
        "the ensemble and its stages, asked one by one", compare_pages(served.plain, served.stages)
    )
    return served, agreement


def _stage_lists(dataset: Dataset, served: ServedLists) -> dict[str, NDArray[np.int32]]:
    """The served lists as item indices, best first, in the order of the pipeline."""
    candidate, score = served.stages["candidate"], served.stages["rank_score"]
    order = np.argsort(-score, axis=1, kind="stable")
    return {
        RETRIEVE: candidate,
        RANK: np.take_along_axis(candidate, order, axis=1),
        RERANK: _indices(dataset, served.plain["item_id"]),
        RERANK_DEFAULT: _indices(dataset, served.varied["item_id"]),
    }


def _indices(dataset: Dataset, wire_ids: NDArray[np.int64]) -> NDArray[np.int32]:
    known = dataset.interactions.item_ids
    order = np.argsort(known)
    return order[np.searchsorted(known, wire_ids, sorter=order)].astype(np.int32)


def _manifest(name: str, config: BuildConfig, dataset: Dataset, fingerprint: str) -> dict[str, Any]:
    interactions = dataset.interactions
    heavy = int(interactions.lengths.argmax())
    active = np.where(interactions.lengths >= LEAST_EVENTS, interactions.lengths, np.iinfo(np.int64).max)
    light = int(active.argmin())
    return {
        "release": name,
        "name": config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": fingerprint,
        "seed": config.seed,
        "sizes": config.sizes.to_dict(),
        "contract": {
            model.name: {
                tensor.name: [tensor.dtype, tensor.resolve(config.sizes)]
                for tensor in (*model.inputs, *model.outputs)
            }
            for model in MODELS.values()
        },
        "data": {
            "users": interactions.n_users,
            "items": interactions.n_items,
            "events": interactions.n_events,
            "first": dataset.data_range[0],
            "last": dataset.data_range[1],
        },
        "trained_on": TRAINED_ON,
        "examples": {
            "heavy_user": dataset.user_keys[heavy],
            "heavy_user_id": int(interactions.user_ids[heavy]),
            "light_user": dataset.user_keys[light],
            "session": [dataset.item_keys[item - 1] for item in interactions.user(light)[-3:]],
            "user_id_kind": dataset.user_id_kind,
            "item_id_kind": dataset.item_id_kind,
        },
        "libraries": library_versions(),
    }
