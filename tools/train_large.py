"""Train a large sequence model, alone or with torchrun on many GPUs, for a small one to be distilled from."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from python_backend.stores import StoreUnavailable
from tools.arguments import above_zero, seed
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.data.problems import DataProblems
from tools.progress import Steps

if TYPE_CHECKING:
    from tools.data.dataset import Dataset
    from tools.training.features import Features
    from tools.training.retrieve_training import Trainer
    from tools.training.snapshot import Settings
    from tools.training.workers import Workers

EXAMPLES = """\
examples:
  torchrun --nproc-per-node 8 tools/train_large.py --config tools/config/large.toml
  torchrun --nproc-per-node 8 --max-restarts 3 tools/train_large.py --config tools/config/large.toml
  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \\
      tools/train_large.py --config mine.toml      # --output must be a folder that both machines share
  python tools/train_large.py --config tools/config/large.toml --try-step --batch 2   # does it fit?
  python tools/train_large.py --config mine.toml --validate     # measured on validation items

A run that was killed goes on from its last checkpoint when the same command is given again, also with another
number of processes. The model is written to OUTPUT/large/NAME/model.pt (NAME-validate with --validate); name
it as `teacher` in the section [retrieve.distil] of a small model's configuration.

exit status: 0 done, 1 a check failed or a checkpoint belongs to another run, 2 the configuration or the data
need a change; torchrun makes 1 of every failure
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
MODEL, CHECKPOINT = "model.pt", "checkpoint.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config)
        changes = {"seed": options.seed, "output": options.output}
        config = config.model_copy(update={key: value for key, value in changes.items() if value is not None})
        if options.batch is not None:
            retrieve = config.retrieve.model_copy(update={"batch": options.batch})
            config = config.model_copy(update={"retrieve": retrieve})
        if config.retrieve.distil is not None:
            raise ConfigError(
                [f"{options.config}: retrieve.distil: a large model has no teacher; leave the section out"]
            )
        from tools.training.workers import joined

        with joined() as workers:
            return _train(config, options, workers)
    except (ConfigError, DataProblems) as error:
        _complain(str(error))
        return BAD_INPUT
    except (CheckFailed, FloatingPointError, StoreUnavailable) as error:
        _complain(f"train_large.py: {error}")
        return FAILED


def _complain(text: str) -> None:
    """Once, not once for each process."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr)


def _train(config: BuildConfig, options: argparse.Namespace, workers: Workers) -> int:
    import torch

    from tools.data.gather import gather
    from tools.data.split import leave_one_out
    from tools.training.features import Features
    from tools.training.retrieve_training import Trainer
    from tools.training.retriever import HeldOut
    from tools.training.snapshot import load_snapshot, require_same, save_snapshot

    if not workers.on_cuda:
        torch.use_deterministic_algorithms(True)
    console = Console(highlight=False, quiet=workers.rank > 0, soft_wrap=True)
    steps = Steps(3, console)
    with steps.step("reading and checking the data") as update:
        dataset = gather(config, lambda what, rows: update(rows, rows, f"{what}: {rows:,} rows")).dataset
        features, split = Features.of(dataset, config), leave_one_out(dataset.interactions)
    # Whatever a small model is measured on must be new to its teacher, too.
    held_out = 2 if options.validate else 1
    events = split.train if options.validate else split.train_and_validation
    validation = HeldOut(split.train, split.validation) if options.validate else None
    folder = config.output / "large" / (config.name + ("-validate" if options.validate else ""))
    settings = _settings(config, dataset, held_out)
    if options.fresh and not options.try_step and workers.rank == 0:
        for name in (MODEL, CHECKPOINT):
            (folder / name).unlink(missing_ok=True)
    workers.wait()
    if not options.try_step and require_same(folder / MODEL, settings):
        console.print(f"{folder / MODEL}: trained already, from the same configuration and data")
        return OK
    trainer = Trainer(
        events,
        features,
        config.retrieve,
        history=config.sizes.history,
        seed=config.seed,
        workers=workers,
        distributed=config.distributed,
    )
    console.print(_describe(trainer))
    if options.try_step:
        return _try_step(trainer, console)
    checkpoint = folder / CHECKPOINT
    if load_snapshot(checkpoint, trainer, settings):
        console.print(f"going on from {checkpoint}: epoch {trainer.epoch}, {trainer.done:,} steps done")
    log = _log(trainer, config, console)

    def after_step() -> None:
        log()
        if trainer.done % config.distributed.save_every == 0:
            save_snapshot(checkpoint, trainer, settings)

    with steps.step("training") as update:
        trainer.run(
            validation=validation,
            after_step=after_step,
            progress=lambda done, total, text: console.print(f"epoch {done}/{total}  {text}"),
        )
    with steps.step("writing the model"):
        if workers.rank == 0:
            _write(folder, trainer, features, config, dataset, held_out, settings)
        workers.wait()
    console.print(
        f"distil from it with:\n  [retrieve.distil]\n  teacher = {json.dumps(str(folder / MODEL))}",
        markup=False,
    )
    return OK


def _write(
    folder: Path,
    trainer: Trainer,
    features: Features,
    config: BuildConfig,
    dataset: Dataset,
    held_out: int,
    settings: Settings,
) -> None:
    from tools.training.teacher import write_teacher

    write_teacher(folder / MODEL, trainer.model, features, config, dataset, held_out, settings)
    (folder / "curve.json").write_text(json.dumps(trainer.curve, indent=1) + "\n", encoding="utf-8")
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _settings(config: BuildConfig, dataset: Dataset, held_out: int) -> Settings:
    """What makes two runs the same: not how many processes they have, nor where they write."""
    interactions = dataset.interactions
    arrays = (interactions.items, interactions.timestamps, interactions.offsets, interactions.item_ids)
    events = hashlib.blake2b(b"".join(array.tobytes() for array in arrays), digest_size=16).hexdigest()
    sections = config.model_dump(mode="json", include={"retrieve", "contract", "data"})
    flat = {
        f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in section.items()
        if name != "contract" or key in {"history", "user_features"}
    }
    flat["distributed.clip"] = config.distributed.clip
    brought = {
        f"{name} vectors": hashlib.blake2b(vectors.tobytes(), digest_size=16).hexdigest()
        for name, vectors in dataset.item_vectors.items()
    }
    return {"seed": config.seed, **flat, **brought, "events": events, "newest events left out": held_out}


def _describe(trainer: Trainer) -> str:
    workers = trainer.workers
    tower = sum(parameter.numel() for parameter in trainer.model.tower.parameters())
    everything = sum(parameter.numel() for parameter in trainer.model.parameters())
    return (
        f"{everything:,} parameters, {tower:,} of them in the tower; {workers.count} processes on"
        f" {workers.device.type}; {trainer.steps:,} steps in an epoch, {trainer.config.epochs} epochs"
    )


def _log(trainer: Trainer, config: BuildConfig, console: Console) -> Callable[[], None]:
    """Prints a line now and then; to be called after each step."""
    begin, first = time.monotonic(), trainer.done

    def log() -> None:
        if trainer.done % config.distributed.log_every == 0:
            seconds = (time.monotonic() - begin) / max(trainer.done - first, 1)
            left = seconds * (trainer.steps * config.retrieve.epochs - trainer.done)
            recent = trainer.losses[-config.distributed.log_every :]
            rate = trainer.optimisation.schedule.get_last_lr()[0]
            console.print(
                f"epoch {trainer.epoch}/{config.retrieve.epochs}  step {trainer.done:,}"
                f"  loss {sum(recent) / len(recent):.4f}  learning rate {rate:.2e}  {seconds:.2f} s/step"
                f"  {max(left, 0) / 3600:.1f} h left  {_memory(trainer):.1f} GiB"
            )

    return log


def _try_step(trainer: Trainer, console: Console) -> int:
    begin = time.monotonic()
    loss = trainer.try_step()
    console.print(
        f"a step on the {trainer.config.batch} longest windows of {trainer.history} items: loss {loss:.4f},"
        f" {time.monotonic() - begin:.1f} s, at most {_memory(trainer):.2f} GiB of memory in this process"
    )
    return OK


def _memory(trainer: Trainer) -> float:
    """The most GiB that this process has taken, of the GPU's memory where it has one."""
    import torch

    if trainer.workers.on_cuda:
        return torch.cuda.max_memory_allocated(trainer.workers.device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchrun … tools/train_large.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the model's TOML file")
    parser.add_argument("--seed", type=seed, metavar="N", help="instead of the file's")
    parser.add_argument("--output", type=Path, metavar="DIR", help="instead of the file's")
    parser.add_argument(
        "--batch", type=above_zero, metavar="ROWS", help="of all processes together, instead of the file's"
    )
    parser.add_argument(
        "--validate",
        action="store_true",
        help="train without the last two events of each user and measure on the first of them; such a model"
        " may teach what `build_repo.py --validate` measures",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="remove what an earlier run left, and begin anew"
    )
    parser.add_argument(
        "--try-step",
        action="store_true",
        help="make one step on the longest histories, say what it took, and write nothing",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
