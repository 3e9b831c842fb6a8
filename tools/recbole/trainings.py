"""What RecBole is asked to train, and how events and scores go there and back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.data.interactions import Interactions

CHOOSING, FINAL = "choosing", "final"
"""The data sets: without the test items, to choose settings and epochs by; and all of it."""


@dataclass(frozen=True)
class Training:
    """One of RecBole's models.

    Attributes:
        model: RecBole's name of it.
        ours: the model here that it is compared with.
        epochs: at most so many.
        patience: epochs without a better validation figure after which training stops.
        settings: hyper-parameters to choose between on validation; what is not named has RecBole's default.
    """

    model: str
    ours: str
    epochs: int = 1
    patience: int = 10
    settings: tuple[dict[str, Any], ...] = ({},)


_NEXT_ITEM: dict[str, Any] = {"train_neg_sample_args": None, "train_batch_size": 256}
"""Softmax over all items, as RecBole's documentation runs its sequential models. Batches of 256 instead of
2048 make eight times as many steps of an epoch, so that far fewer epochs are needed: RecBole trains on every
prefix of every history by itself, and on a CPU an epoch takes minutes."""

TRAININGS = (
    Training("Pop", ours="popularity"),
    Training("ItemKNN", ours="item_knn", settings=tuple({"k": k} for k in (50, 100, 200, 400))),
    Training(
        "EASE", ours="ease", settings=tuple({"reg_weight": float(weight)} for weight in (100, 250, 500, 1000))
    ),
    Training("NeuMF", ours="neumf", epochs=300),
    Training("GRU4Rec", ours="gru", epochs=50, patience=3, settings=(_NEXT_ITEM,)),
    Training("SASRec", ours="transformer", epochs=50, settings=(_NEXT_ITEM,)),
)
"""Otherwise neural models have the settings that RecBole ships, and stop where validation no longer gains."""


@dataclass(frozen=True)
class Job:
    """What tools/recbole/train.py reads; its fields are those of `Training` and where things lie."""

    model: str
    epochs: int
    patience: int
    settings: tuple[dict[str, Any], ...]
    data: str
    users: int
    items: int
    history: int
    seed: int
    scores: str
    receipt: str

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def write_events(interactions: Interactions, folder: Path) -> None:
    """Write all events and those without each user's last as RecBole's atomic files into `folder`.

    A user is the row here and an item the index; the time is the place in the user's history, so that
    RecBole leaves out exactly the events that `tools.data.split.leave_one_out` does.
    """
    for name, events in ((FINAL, interactions), (CHOOSING, interactions.without_last(1))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        users = np.repeat(np.arange(events.n_users), events.lengths)
        places = np.arange(events.n_events) - events.offsets[users]
        rows = [f"{u}\t{i}\t{p}" for u, i, p in zip(users, events.items, places, strict=True)]
        text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows, ""])
        (folder / name / f"{name}.inter").write_text(text, encoding="utf-8")


def read_scores(path: Path, users: int, items: int) -> NDArray[np.float32]:
    """The scores that RecBole's model wrote, float32 ``[users, items + 1]``.

    Raises ValueError where they are of another shape or not numbers.
    """
    scores: NDArray[np.float32] = np.load(path)
    if scores.shape != (users, items + 1):
        raise ValueError(f"{path}: the shape is {scores.shape}; it must be {(users, items + 1)}")
    if np.isnan(scores).any():
        raise ValueError(f"{path}: holds scores that are not numbers")
    return scores
