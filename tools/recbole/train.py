"""Trains one of RecBole's models and writes its scores; this runs in RecBole's own environment.

    python tools/recbole/train.py JOB.json

JOB.json says what to do (`tools.recbole.trainings.Job`). The folder ``data`` holds RecBole's atomic files of
two data sets: ``choosing``, whose last event of every user is what settings and epochs are chosen by, and
``final``, whose last event of every user is the test. Events are numbered within their user, so no tie is
left to break. The scores, float32 ``[users, items + 1]`` by our row and index, go into the file ``scores``;
items that RecBole does not know have -inf. What was chosen is written to ``receipt``. Validation figures are
RecBole's own.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quicker import quicken  # beside this file, since none of the product is installed here
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_scores

USERS_AT_ONCE = 32
CHOOSING, FINAL = {"choosing": "valid_only"}, {"final": "test_only"}


def prepare(job: dict[str, Any], settings: dict[str, Any], data: dict[str, str]) -> tuple[Any, Any]:
    """RecBole's trainer of an untrained model, and its loaders of training, validation and test data."""
    ((name, leave),) = data.items()
    choices = {
        "data_path": job["data"],
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": leave}, "group_by": "user", "order": "TO", "mode": "full"},
        "metrics": ["NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "MAX_ITEM_LIST_LENGTH": job["history"],
        "seed": job["seed"],
        "use_gpu": torch.cuda.is_available(),
        "show_progress": False,
        "state": "ERROR",
        "epochs": job["epochs"],
        "stopping_step": job["patience"],
        **settings,
    }
    config = Config(model=job["model"], dataset=name, config_dict=choices)
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(job["model"])(config, loaders[0]._dataset).to(config["device"])
    # One of RecBole's modules turns this on for all models when it is imported; it looks for NaN after each
    # operation, changes no result and takes as long as the training itself.
    torch.autograd.set_detect_anomaly(False)
    if job["model"] == "SASRec" and config["device"].type == "cpu":
        quicken(model, job["seed"])
    return get_trainer(config["MODEL_TYPE"], job["model"])(config, model), loaders


def choose(job: dict[str, Any]) -> tuple[dict[str, Any], int, float]:
    """The settings and the number of epochs that are best on validation, and their NDCG@10 there."""
    best: tuple[dict[str, Any], int, float] = ({}, 0, -1.0)
    for settings in job["settings"]:
        trainer, (train, validation, _) = prepare(job, settings, CHOOSING)
        began = time.monotonic()

        def note(epoch: int, score: float, settings: dict[str, Any] = settings, began: float = began) -> None:
            nonlocal best
            seconds = time.monotonic() - began
            print(
                f"{job['model']} {settings} epoch {epoch + 1}: NDCG@10 {score:.4f}, {seconds:.0f} s",
                flush=True,
            )
            if score > best[2]:
                best = (settings, epoch + 1, float(score))

        trainer.fit(train, validation, verbose=False, saved=False, callback_fn=note)
    return best


def scores_of(trainer: Any, test: Any, users: int, items: int) -> np.ndarray[Any, Any]:
    """What the trained model gives every item for every user, float32 ``[users, items + 1]``."""
    dataset = test.dataset
    known = [index for index in range(1, items + 1) if str(index) in dataset.field2token_id["item_id"]]
    columns = dataset.token2id("item_id", [str(index) for index in known])
    scores = np.full((users, items + 1), -np.inf, dtype=np.float32)
    rows = [row for row in range(users) if str(row) in dataset.field2token_id["user_id"]]
    for start in range(0, len(rows), USERS_AT_ONCE):
        some = rows[start : start + USERS_AT_ONCE]
        theirs = dataset.token2id("user_id", [str(row) for row in some])
        with torch.no_grad():
            scored = full_sort_scores(theirs, trainer.model, test, device=trainer.device)
        found = scored.cpu().numpy().astype(np.float32)
        scores[np.ix_(some, known)] = found[:, columns]
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("job", type=Path)
    job = json.loads(parser.parse_args().job.read_text(encoding="utf-8"))
    began = time.monotonic()
    settings, epochs, validation = choose(job)
    chosen = time.monotonic()
    trainer, (train, _, test) = prepare(job, {**settings, "epochs": epochs}, FINAL)
    trainer.fit(train, None, verbose=False, saved=False)
    trained = time.monotonic()
    scores = scores_of(trainer, test, job["users"], job["items"])
    # Written under another name and renamed: whoever finds the file finds all of it.
    with open(job["scores"] + ".part", "wb") as file:
        np.save(file, scores)
    os.replace(job["scores"] + ".part", job["scores"])
    receipt = {
        "settings": settings,
        "epochs": epochs,
        "validation_ndcg_10": validation,
        "device": str(trainer.config["device"]),
        "seconds_choosing": chosen - began,
        "seconds_training": trained - chosen,
    }
    Path(job["receipt"]).write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
    print(f"{job['model']}: {settings}, {epochs} epochs, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
