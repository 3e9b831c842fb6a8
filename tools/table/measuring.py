"""A release on a running Triton, each of its models asked for every user: the content of the table."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonrec_client.contract import RECOMMEND

from python_backend.plan import Plan
from python_backend.release import Release
from python_backend.stores import open_store
from tools.config.build import BuildConfig
from tools.config.slots import name_of
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions
from tools.data.split import Split, leave_one_out
from tools.data.store import fill_store
from tools.evaluation import metrics
from tools.evaluation.comparison import QUESTION, RANKS, question_hashes
from tools.evaluation.evaluation import RANK
from tools.evaluation.served import Tensors
from tools.machine import machine
from tools.progress import Steps
from tools.releases.manifest import read_manifest
from tools.serving.repository import write_served_repository
from tools.serving.server import STAGED, TritonServer, ask_anonymously
from tools.table.answers import agreements, ask_triton, bytes_of, latencies
from tools.table.few_events import COUNTS, ask_visitors, few_events_of, section_of
from tools.table.rows import ACCURACY, Answer, Ground, Link, answers_of, differences, row_of

MAIN = "main"
"""The ranker whose scores are compared within a list; those of the others are of each candidate by itself."""


class OtherQuestions(ValueError):
    """Two releases were not asked the same; the message says which."""


@dataclass(frozen=True)
class Measured:
    """What Triton gave for every user: the tensors of all steps, how they agree with this process, and ms.

    `visitors` are the tensors for visitors with few events, by how many (`few_events`).
    """

    tensors: Tensors
    visitors: Mapping[int, Tensors]
    agreements: Mapping[str, Any]
    latencies: Mapping[str, Mapping[str, float]]


def measure(
    release: Release, dataset: Dataset, histories: Interactions, build: Path, steps: Steps, *, repeats: int
) -> Measured:
    """Serve every step of `release` as a model of its own, from a store that knows `histories` alone.

    The server's log and what it runs on are in `build`. Raises ServerUnavailableError.
    """
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as temporary:
        folder = Path(temporary).resolve()
        url = f"lmdb://{folder / 'store'}"
        store = open_store(url)
        fill_store(store, histories, dataset.user_features)
        store.close()
        options = {"store_url": url, "store_timeout_ms": "1000"}
        write_served_repository([release.path], release.name, folder / "served", overrides=options)
        recommend = f"{RECOMMEND.name}_{release.name}"
        with TritonServer(
            folder / "served",
            log=build / "triton-table.log",
            backends=build / "backends",
            profile=STAGED,
            models=[recommend],
            check=lambda client: ask_anonymously(client, recommend),
        ) as server:
            with steps.step("asking Triton's models for every user") as update:
                tensors = ask_triton(
                    server.address,
                    release,
                    histories.user_ids,
                    lambda done, total: update(done, total, "users"),
                )
            users = np.flatnonzero(histories.lengths > max(COUNTS))
            visitors = {}
            with steps.step("asking them for visitors with few events") as update:
                for count in COUNTS:
                    visitors[count] = ask_visitors(
                        server.address,
                        release,
                        histories,
                        users,
                        count,
                        lambda done, total: update(done, total, "visitors"),
                    )
            with steps.step("one request at a time"):
                spent = latencies(server.address, release, tensors, repeats=repeats)
        with steps.step("the same in this process"):
            agree = agreements(release, tensors, options)
    return Measured(tensors, visitors, agree, spent)


def table_of(
    release: Release,
    config: BuildConfig,
    dataset: Dataset,
    measured: Measured,
    *,
    judged_by: str = "test",
    single: Path | None = None,
) -> dict[str, Any]:
    """Everything that the page states, JSON-ready.

    `judged_by` says what each user's last event in `dataset` is: the test or validation. `single`
    is a release of the same data whose main ranker orders what the transformer alone finds. Raises
    OtherQuestions where it was asked something else.
    """
    interactions, split = dataset.interactions, leave_one_out(dataset.interactions)
    vectors = np.load(release.artifacts / "item_vectors.npy")
    ground = Ground(split.test, split.train_and_validation.popularity(), vectors)
    plan, seconds = Plan.of(release), read_manifest(release.path).get("training_seconds", {})
    answers = answers_of(plan, measured.tensors, links_of(plan))
    rows = []
    for answer in answers:
        step = plan.step(answer.model)
        assert step is not None
        agreement = measured.agreements.get(step.model)
        rows.append(
            {
                **row_of(answer, ground),
                "training_seconds": seconds.get(step.model),
                "latency_ms": measured.latencies.get(step.model),
                "bytes": bytes_of(release, step),
                "agreement": agreement and {**asdict(agreement), "holds": agreement.holds},
            }
        )
    known = split.train_and_validation.lengths > max(COUNTS)
    few = few_events_of(plan, links_of(plan), measured.visitors, split.test[known])
    return {
        "format": 1,
        "release": release.name,
        "name": config.name,
        "seed": config.seed,
        "judged_by": judged_by,
        "machine": machine(),
        "users": interactions.n_users,
        "test_users": int(np.count_nonzero(split.test)),
        "candidates": release.sizes.candidates,
        "channels": [name_of(channel) for channel in config.channels],
        "rows": rows,
        "merged": merged_of(answers, split, interactions, single),
        "few_events": few,
        "sections": [section_of(few)],
    }


def links_of(plan: Plan) -> dict[str, Link]:
    """What makes the scores of each ranker's model probabilities."""
    return {
        step.model: "list" if step.model in (f"rank_{MAIN}", "rank") else "each"
        for step in plan.steps
        if step.stage == "rank"
    }


def merged_of(
    answers: Sequence[Answer], split: Split, interactions: Interactions, single: Path | None
) -> dict[str, Any] | None:
    """The merged list against each channel's of the same length, before and after the main ranker.

    None where nothing is merged; a channel whose list is shorter than the merged one is left out.
    """
    merge = next((answer for answer in answers if answer.kind == "merge"), None)
    if merge is None:
        return None
    places = min(merge.lists.shape[1], 500)
    alone = {
        answer.name: answer.lists[:, :places]
        for answer in answers
        if answer.kind == "channel" and answer.lists.shape[1] >= places
    }
    gaps = differences(merge.lists[:, :places], alone, split.test, "recall_500")
    recall = {
        name: {
            "alone": float(metrics.recall(metrics.ranks(alone[name], split.test), places).mean()),
            **gaps[name],
        }
        for name in alone
    }
    best = sorted(recall, key=lambda name: -recall[name]["alone"])
    found: dict[str, Any] = {
        "places": places,
        "recall": {name: recall[name] for name in best},
        "ranked": None,
    }
    main = next((answer for answer in answers if answer.model == f"rank_{MAIN}"), None)
    if single is not None and main is not None:
        found["ranked"] = _ranked(main, split, single)
    return found


def _ranked(main: Answer, split: Split, single: Path) -> dict[str, Any]:
    """NDCG@10 of the main ranker on merged candidates, beside that in the release `single`."""
    with np.load(single / "report" / RANKS) as arrays:
        theirs, asked = arrays[RANK], arrays[QUESTION]
    questions = question_hashes(split.train_and_validation, split.test)[split.test > 0]
    if not np.array_equal(asked, questions):
        raise OtherQuestions(f"release {single.name} was measured on other users, targets or histories")
    figure = ACCURACY["ndcg_10"]
    ours, other = figure(metrics.ranks(main.lists, split.test)), figure(theirs)
    return {
        "release": single.name,
        "merged": float(ours.mean()),
        "single": float(other.mean()),
        "difference": asdict(metrics.paired_bootstrap(ours, other)),
    }
