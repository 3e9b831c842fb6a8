"""Where a run of training stands, as a file that a killed run goes on from."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch

from tools.checks import CheckFailed
from tools.training.retrieve_training import Trainer
from tools.training.teacher import save_whole

Settings = dict[str, Any]
"""What a run is made of, by dotted key: configuration and data."""


class AnotherRunError(CheckFailed):
    """A file that was written by a run of something else."""


def save_snapshot(path: Path, trainer: Trainer, settings: Settings) -> None:
    """Write where `trainer` stands; every process calls this after the same step, and rank 0 writes."""
    workers = trainer.workers
    draws = [workers.gather(torch.get_rng_state())]
    if workers.on_cuda:
        draws.append(workers.gather(torch.cuda.get_rng_state(workers.device)))
    if workers.rank == 0:
        content = {
            "settings": json.dumps(settings),
            "run": json.dumps(
                {
                    "epoch": trainer.epoch,
                    "losses": trainer.losses,
                    "curve": trainer.curve,
                    "random": trainer.random.bit_generator.state,
                    "epoch_began": trainer.epoch_began,
                }
            ),
            "draws": draws,
            "model": trainer.model.state_dict(),
            "optimiser": trainer.optimisation.optimiser.state_dict(),
            "schedule": trainer.optimisation.schedule.state_dict(),
        }
        save_whole(path, content)


def require_same(path: Path, settings: Settings) -> dict[str, Any] | None:
    """What a run with the same `settings` wrote to `path`; None where there is no such file.

    Raises AnotherRunError where the file belongs to a run with other settings, CheckFailed where it cannot be
    read.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        written = json.loads(content["settings"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckFailed(f"{path}: was not written by tools/train_large.py: {reason}") from error
    settings = json.loads(json.dumps(settings))
    if written != settings:
        keys = sorted(key for key in written | settings if written.get(key) != settings.get(key))
        differences = "; ".join(f"{key} was {written.get(key)}, is {settings.get(key)}" for key in keys[:5])
        raise AnotherRunError(
            f"{path}: belongs to another run: {differences}; go back to its configuration and data, or begin"
            " anew with --fresh"
        )
    return content


def load_snapshot(path: Path, trainer: Trainer, settings: Settings) -> bool:
    """Put `trainer` where the run stood that wrote `path`; False where there is no such file.

    The number of processes may be another one than before. Raises what `require_same` raises.
    """
    content = require_same(path, settings)
    if content is None:
        return False
    run = json.loads(content["run"])
    trainer.model.load_state_dict(content["model"])
    trainer.optimisation.optimiser.load_state_dict(content["optimiser"])
    trainer.optimisation.schedule.load_state_dict(content["schedule"])
    trainer.epoch, trainer.losses, trainer.curve = run["epoch"], run["losses"], run["curve"]
    trainer.random.bit_generator.state = run["random"]
    trainer.epoch_began = run["epoch_began"]
    rank, draws = trainer.workers.rank, content["draws"]
    if rank < len(draws[0]):  # a process that was not there before keeps the draws of its own seed
        torch.set_rng_state(draws[0][rank])
        if trainer.workers.on_cuda and len(draws) > 1:
            torch.cuda.set_rng_state(draws[1][rank], trainer.workers.device)
    return True
