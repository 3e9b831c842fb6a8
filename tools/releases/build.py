"""The whole way from a data set to a release, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tritonrec_client.contract import MODELS

from python_backend.release import Release
from tools.channels.fitting import write_transformer
from tools.compression.variants import served_form
from tools.config.build import BuildConfig
from tools.data.gather import Gathered
from tools.data.interactions import Interactions
from tools.data.split import LEAST_EVENTS, leave_one_out
from tools.evaluation.baselines import baseline_lists
from tools.evaluation.comparison import Comparison, page_ranks, question_hashes
from tools.evaluation.evaluation import Evaluation
from tools.evaluation.report import write_report
from tools.progress import Steps
from tools.releases.artifacts import unit_vectors, write_artifacts
from tools.releases.code import CODE, ROOT
from tools.releases.drafts import draft_in
from tools.releases.exploration import write_exploration
from tools.releases.folder import find_releases
from tools.releases.manifest import (
    combined_hash,
    file_hash,
    folder_hashes,
    library_versions,
    read_manifest,
    write_manifest,
)
from tools.releases.planning import plan_of, ranked_sizes
from tools.releases.profiles import write_profiles
from tools.releases.slots import material_of, refresh_slots, retrieval_of, train_slots
from tools.releases.trial import stage_lists, try_out
from tools.training.checkpoint import Checkpoint
from tools.training.cold_start import warm_up_items
from tools.training.features import Features
from tools.training.models import Models, train_models
from tools.training.refresh import refresh_models
from tools.training.teacher import teacher_of

REFRESHED = (
    "Trained on from release {release} with {fresh:,} events that were logged since, all but the newest of"
    " each user, which is the test. "
)
TRAINED_ON = (
    "Every event but the newest of each user, which is the test; users with fewer than 3 events are trained"
    " on whole. The shipped models are the measured ones: they were not trained again on the test events,"
    " but what is served sees them in the users' histories."
)

BUILDING = [
    ROOT / "tools" / room
    for room in (
        "channels",
        "compression",
        "config",
        "data",
        "evaluation",
        "plans",
        "rankers",
        "releases",
        "serving",
        "training",
    )
]
"""The rooms of tools/ that decide what is built; serving it or showing it off does not."""


def build_release(
    config: BuildConfig,
    gathered: Gathered,
    fingerprint: str,
    steps: Steps,
    *,
    active: Release | None = None,
    refreshed: Checkpoint | None = None,
    receipt: Mapping[str, Any] | None = None,
) -> Path:
    """Train, check what came out on a running server and write a release; its folder.

    `fingerprint` says what the release is built from (`fingerprint_of`). The release `active` is asked the
    same questions on the same server, for the gates. With `refreshed` training goes on from there instead of
    beginning anew. The report shows the `receipt` of the ranker's variants, if there is one. Nothing appears
    in ``config.output``/releases until every check has passed. Raises CheckFailed, GraphMismatch, ConfigError
    or ServerUnavailableError.
    """
    dataset = gathered.dataset
    interactions = dataset.interactions
    split = leave_one_out(interactions)
    plan, folder = plan_of(config), config.output / "releases"
    with draft_in(folder) as draft, ThreadPoolExecutor(1) as meanwhile:
        slots = draft.with_name("slots")
        slots.mkdir()
        features, models = _models(config, gathered, split.train_and_validation, steps, slots, refreshed)
        never_met = interactions.popularity() == 0
        for model in (models.retriever, models.ranker):
            warm_up_items(model, never_met, split.train_and_validation.popularity())
        models.ranker.evidence.leave_out(never_met)
        with steps.step("exporting graphs and item arrays"):
            write_transformer(config.channels, models.retriever, features, config.sizes, slots)
            form = served_form(
                config,
                models.ranker,
                retrieval_of(config, models.retriever, features, slots),
                split.train_and_validation,
                features,
                ranked_sizes(plan, config.sizes),
                config.compress.requests if refreshed is None else config.refresh.requests,
            )
            write_artifacts(
                draft,
                dataset=dataset,
                histories=split.train_and_validation,
                features=features,
                retriever=models.retriever,
                ranker=models.ranker,
                rerank=config.rerank,
                sizes=config.sizes,
                form=form,
                plan=plan,
                slots=slots,
            )
            write_exploration(
                draft / "artifacts", config.rerank.exploration, split.train_and_validation, gathered.shown
            )
            profiles = write_profiles(
                draft, config, features=features, retriever=models.retriever, ranker=form.served
            )
            name = combined_hash([fingerprint, *map(str, folder_hashes(draft).items())])[:12]
            manifest = manifest_of(name, config, gathered, fingerprint, refreshed) | profiles
            manifest["training_seconds"] = {model: round(taken, 1) for model, taken in models.seconds.items()}
            write_manifest(draft, manifest)
        with steps.step("asking Triton for every user's page") as update:
            fitting = meanwhile.submit(
                baseline_lists, split.train_and_validation, config.sizes.candidates, config.seed
            )
            trial = try_out(
                Release.open(draft),
                active,
                config=config,
                dataset=dataset,
                features=features,
                histories=split.train_and_validation,
                update=update,
            )
        with steps.step("baselines and report"):
            baselines = fitting.result()
            compared = None
            if active is not None and trial.active is not None:
                asked = np.flatnonzero(split.test > 0)
                wanted = interactions.item_ids[split.test[asked]]
                pages = trial.active["item_id"][asked]
                compared = Comparison(active.name, page_ranks(pages, wanted))
            evaluation = Evaluation(
                release=name,
                name=config.name,
                trained_on=manifest["trained_on"],
                seed=config.seed,
                sizes=config.sizes,
                n_users=interactions.n_users,
                n_items=interactions.n_items,
                n_events=interactions.n_events,
                data_range=dataset.data_range,
                targets=split.test,
                history_lengths=split.train_and_validation.lengths,
                stages=stage_lists(dataset, trial.served),
                baselines=baselines.lists,
                skipped=baselines.skipped,
                popularity=split.train_and_validation.popularity(),
                item_vectors=unit_vectors(models.retriever),
                page_probability=trial.served.plain["score"],
                curves=models.curves,
                timings=steps.timings,
                library_versions=library_versions(),
                questions=question_hashes(split.train_and_validation, split.test),
                compared=compared,
                variant=config.compress.variant,
                receipt=receipt,
            )
            metrics = write_report(evaluation, draft / "report")
        manifest["metrics"] = metrics
        manifest["checks"] = {"served_is_in_process": asdict(trial.agreement)}
        manifest["files"] = folder_hashes(draft)
        write_manifest(draft, manifest)
        release = folder / name
        if not release.exists():  # otherwise the very same release was built before
            draft.rename(release)
    return release


def _models(
    config: BuildConfig,
    gathered: Gathered,
    interactions: Interactions,
    steps: Steps,
    slots: Path,
    refreshed: Checkpoint | None,
) -> tuple[Features, Models]:
    """Features and models; what else `config` names for channels and rankers goes into the folder `slots`."""
    dataset = gathered.dataset
    if refreshed is not None:
        features = refreshed.features(dataset, config)
        several = bool(config.channels or config.rankers)
        if several:
            material = material_of(config, dataset, interactions, features)
            refresh_slots(config, refreshed.release, material, steps.step, slots)
        return features, refresh_models(
            config, refreshed, interactions, gathered.gained, features, steps.step, rank=not several
        )
    features = Features.of(dataset, config)
    teacher = teacher_of(config, dataset, held_out=1)
    if config.channels or config.rankers:
        material = material_of(config, dataset, interactions, features)
        return features, train_slots(config, material, steps.step, slots, teacher=teacher)
    return features, train_models(config, interactions, features, steps.step, teacher=teacher)


def fingerprint_of(config: BuildConfig, *more: str) -> str:
    """What decides a build's outcome: configuration, data, code and library versions, as one hash.

    `more` is what else does: events of the log, the release that training goes on from.
    """
    tables = (config.data.events, config.data.items, config.data.users)
    data = [file_hash(table.path) for table in tables if table is not None and table.path.is_file()]
    brought = config.data.items.vectors if config.data.items else ()
    data += [file_hash(path) for vectors in brought for path in vectors.files if path.is_file()]
    teacher = config.retrieve.distil
    if teacher is not None and teacher.teacher.is_file():
        data.append(file_hash(teacher.teacher))
    code = [
        f"{path.relative_to(ROOT)} {file_hash(path)}"
        for folder in (*BUILDING, ROOT / "model_repository", *CODE.values())
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".py", ".pbtxt", ".jinja"}
    ]
    settings = config.model_dump_json(exclude={"output", "store", "gates", "distributed"})
    return combined_hash([settings, *data, *code, *map(str, library_versions().items()), *more])


def find_built(config: BuildConfig, fingerprint: str) -> Path | None:
    """The release that was built from `fingerprint` before, if there is one."""
    for release in reversed(find_releases(config.output)):
        if read_manifest(release.path).get("fingerprint") == fingerprint:
            return release.path
    return None


def manifest_of(
    name: str,
    config: BuildConfig,
    gathered: Gathered,
    fingerprint: str,
    refreshed: Checkpoint | None = None,
) -> dict[str, Any]:
    """What the manifest of the release `name` says before anything was measured."""
    dataset, feedback = gathered.dataset, gathered.feedback
    interactions = dataset.interactions
    # Users who are known by name; of pseudonyms and of the log's newcomers there is only the wire id.
    named = np.array([bool(key) for key in dataset.user_keys])
    lengths = np.where(named | ~named.any(), interactions.lengths, 0)
    heavy = int(lengths.argmax())
    light = int(np.where(lengths >= LEAST_EVENTS, lengths, np.iinfo(np.int64).max).argmin())
    keys = {row: dataset.user_keys[row] or str(interactions.user_ids[row]) for row in (heavy, light)}
    return {
        "release": name,
        "name": config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": fingerprint,
        "seed": config.seed,
        "refreshed_from": refreshed.release.name if refreshed else None,
        "feedback": None
        if feedback is None
        else {"end": feedback.end, "events": len(feedback.fresh), "fresh": int(feedback.fresh.sum())},
        "teacher": None
        if refreshed or config.retrieve.distil is None
        else {
            "path": str(config.retrieve.distil.teacher),
            "hash": file_hash(config.retrieve.distil.teacher),
        },
        "forgotten": len(gathered.forgotten),
        "rank_variant": config.compress.variant,
        "sizes": config.sizes.to_dict(),
        "contract": {
            model.name: {
                tensor.name: [tensor.dtype, tensor.resolve(config.sizes)]
                for tensor in (*model.inputs, *model.outputs)
            }
            for model in MODELS.values()
        },
        "config": config.model_dump(mode="json", exclude={"output", "store", "gates", "distributed"}),
        "gates": config.gates.model_dump(mode="json"),
        "data": {
            "users": interactions.n_users,
            "items": interactions.n_items,
            "events": interactions.n_events,
            "first": dataset.data_range[0],
            "last": dataset.data_range[1],
        },
        "trained_on": _trained_on(gathered, refreshed),
        "examples": {
            "heavy_user": keys[heavy],
            "heavy_user_id": int(interactions.user_ids[heavy]),
            "light_user": keys[light],
            "session": [dataset.item_keys[item - 1] for item in interactions.user(light)[-3:]],
            "user_id_kind": dataset.user_id_kind if named.any() else "integer",
            "item_id_kind": dataset.item_id_kind,
        },
        "libraries": library_versions(),
    }


def _trained_on(gathered: Gathered, refreshed: Checkpoint | None) -> str:
    if refreshed is None:
        return TRAINED_ON
    return REFRESHED.format(release=refreshed.release.name, fresh=int(gathered.gained.sum())) + TRAINED_ON
