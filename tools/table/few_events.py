"""What models find for visitors of whom little is known: the last few items, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray
from tritonrec_client.contract import ANONYMOUS, PADDING_ID

from python_backend.plan import Plan
from python_backend.release import Release
from tools.data.interactions import Interactions
from tools.evaluation import metrics
from tools.evaluation.metrics import Items
from tools.evaluation.served import BATCH, Progress, Tensors, infer
from tools.table.rows import Answer, Link, answers_of

COUNTS = (0, 1, 2, 4)
"""How many events such a visitor has: fewer than 5."""
POPULARITY = "popularity"
PLACES = 100


def ask_visitors(
    address: str,
    release: Release,
    histories: Interactions,
    users: NDArray[np.int64],
    count: int,
    progress: Progress = lambda done, total: None,
) -> Tensors:
    """Every tensor of every step for anonymous visitors, whose session is the last `count` items of `users`.

    `users` are rows int64 ``[n]`` of `histories`; what else the user did and is stays unknown. Raises
    ValueError where a session is longer than the release's.
    """
    sizes, plan = release.sizes, Plan.of(release)
    if count > sizes.session:
        raise ValueError(f"a session of {count} items; this release takes at most {sizes.session}")
    sessions = np.full((len(users), sizes.session), PADDING_ID, dtype=np.int64)
    for row, user in enumerate(users.tolist()):
        known = histories.item_ids[histories.user(user)[-count:]] if count else np.zeros(0, np.int64)
        sessions[row, : len(known)] = known
    parts = []
    with grpcclient.InferenceServerClient(address) as client:
        for begin in range(0, len(users), BATCH):
            rows = len(sessions[begin : begin + BATCH])
            tensors: Tensors = {
                "user_id": np.full((rows, 1), ANONYMOUS, dtype=np.int64),
                "session_items": sessions[begin : begin + BATCH],
                "diversity": np.zeros((rows, 1), dtype=np.float32),
            }
            for step in plan.steps:
                tensors |= infer(client, step, release.name, tensors)
            parts.append(tensors)
            progress(min(begin + BATCH, len(users)), len(users))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def few_events_of(
    plan: Plan, links: Mapping[str, Link], tensors: Mapping[int, Tensors], targets: Items
) -> dict[str, Any]:
    """Recall of every model by how many events a visitor has, and what it has over popularity.

    `tensors` are what `ask_visitors` gave by the number of events, `targets` int32 ``[n]`` what came next.
    """
    buckets, places = [], PLACES
    for count, found in tensors.items():
        answers = answers_of(plan, found, links)
        places = min(places, *(answer.lists.shape[1] for answer in answers))
        popular = next((answer for answer in answers if answer.name == POPULARITY), None)
        buckets.append(
            {
                "events": count,
                "users": int(np.count_nonzero(targets)),
                "models": [_recall(answer, popular, targets, places) for answer in answers],
            }
        )
    return {"places": places, "buckets": buckets}


def _recall(answer: Answer, popular: Answer | None, targets: Items, places: int) -> dict[str, Any]:
    own = metrics.recall(metrics.ranks(answer.lists, targets), places)
    row: dict[str, Any] = {"name": answer.name, "kind": answer.kind, "recall": float(own.mean())}
    if popular is not None and answer is not popular:
        theirs = metrics.recall(metrics.ranks(popular.lists, targets), places)
        row["over_popularity"] = asdict(metrics.paired_bootstrap(own, theirs))
    return row


def section_of(few: Mapping[str, Any]) -> dict[str, Any]:
    """The page's section: a line for each model, a column for each number of events."""
    buckets: Sequence[Mapping[str, Any]] = few["buckets"]
    lines = []
    for place, model in enumerate(buckets[0]["models"]):
        cells = [f"{model['name']} ({model['kind']})"]
        for bucket in buckets:
            row = bucket["models"][place]
            gap = row.get("over_popularity")
            more = f" ({gap['low']:+.3f} to {gap['high']:+.3f})".replace("-", "−") if gap else ""
            cells.append(f"{row['recall']:.3f}{more}")
        lines.append(cells)
    return {
        "title": "Visitors with fewer than 5 events",
        "caption": f"Recall@{few['places']} for anonymous visitors whose session is the last few items of the"
        " users; nothing else is known of them. In brackets the paired 95 % interval of what a model has"
        " over popularity.",
        "headings": ["Model", *(_heading(bucket["events"]) for bucket in buckets)],
        "lines": lines,
    }


def _heading(events: int) -> str:
    return "no event" if not events else f"{events} event" + ("s" if events > 1 else "")
