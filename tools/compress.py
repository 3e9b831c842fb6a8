"""Measure every variant of the ranker on validation items: size, time and quality, and which one to serve.

Models are trained as a build would, but without anybody's last two events; the first of these is what is
measured on. They are kept in the output folder, so that a second run needs no training. Nothing is released:
put the variant that is worth it into [compress] of the build's configuration.

Times are CPU times of one thread, all variants in turns on the same requests, so that what else the machine
does disturbs the ratios little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from tools.arguments import above_zero
from tools.checks import CheckFailed
from tools.compression.receipt import ELSEWHERE, Receipt, Row, measure
from tools.compression.requests import past_requests
from tools.compression.variants import FULL, Maker
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.config.compression import VARIANTS
from tools.data.dataset import load_dataset
from tools.data.problems import DataProblems
from tools.evaluation.metrics import Interval
from tools.machine import machine
from tools.progress import Steps
from tools.releases.manifest import combined_hash, file_hash
from tools.releases.validate import held_out_models
from tools.training.candidates import retrieval_by
from tools.training.export import RankGraph, export_graph

EXAMPLES = """\
examples:
  python tools/compress.py --config tools/config/movielens-100k.toml
  python tools/compress.py --config mine.toml --variants int8,distilled-int8
  python tools/compress.py --config mine.toml --repeats 1000 --unfolded   # trains nothing again
  python tools/build_repo.py --config mine.toml --receipt build/compression/receipt.json

exit status: 0 done, 1 a variant does not answer like the model, 2 the configuration or the data need a change
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
RECEIPT = "receipt.json"
UNFOLDED = "full, unfolded"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config)
        if options.seed is not None:
            config = config.model_copy(update={"seed": options.seed})
        folder = options.output or config.output / "compression"
        console = Console(highlight=False)
        receipt = _receipt(config, options, folder, console)
    except (ConfigError, DataProblems) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except (CheckFailed, FloatingPointError) as error:
        print(f"compress.py: {error}", file=sys.stderr)
        return FAILED
    path = folder / RECEIPT
    fresh = path.with_name(f".{RECEIPT}.{os.getpid()}")
    fresh.write_text(json.dumps(receipt.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)
    _show(receipt, console)
    console.print(f"wrote {path}", soft_wrap=True)
    return OK


def _receipt(config: BuildConfig, options: argparse.Namespace, folder: Path, console: Console) -> Receipt:
    """Train, or take what an earlier run trained, make the variants and measure them."""
    dataset = load_dataset(config)
    folder.mkdir(parents=True, exist_ok=True)
    tables = (config.data.events, config.data.items, config.data.users)
    files = [file_hash(table.path) for table in tables if table is not None]
    trained = config.model_dump_json(include={"seed", "data", "contract", "retrieve", "rank"})
    kept = folder / f"models-{combined_hash([trained, *files])[:12]}"
    there = kept.exists()
    steps = Steps(2 + (0 if there else 3) + len(options.variants), console)
    found = held_out_models(config, dataset, steps, kept)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    with steps.step("looking up requests of the past"):
        requests = past_requests(
            retrieval_by(found.retriever, found.features, config.sizes),
            found.split.train,
            config.compress.requests,
            config.seed,
        )
    maker = Maker(
        found.ranker, config.compress, config.rank, requests, found.features, config.sizes, config.seed
    )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        graphs = {}
        for variant in options.variants:
            with steps.step(f"making {variant}") as update:
                graphs[variant] = Path(temporary) / f"{variant}.onnx"
                maker.write(variant, graphs[variant], update)
        if options.unfolded:
            graphs[UNFOLDED] = Path(temporary) / f"{UNFOLDED}.onnx"
            export_graph(RankGraph(found.ranker), "rank", found.features, config.sizes, graphs[UNFOLDED])
        with steps.step("measuring"):
            return measure(
                graphs,
                found.examples,
                found.features,
                least_ratio=config.compress.least_ratio,
                measured_on="validation items",
                repeats=options.repeats,
                machine=machine(),
            )


def _show(receipt: Receipt, console: Console) -> None:
    title = f"{receipt.users} users, {receipt.measured_on}; {receipt.repeats} repeats on {receipt.machine}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for heading in (
        "variant",
        "bytes",
        "ms, 1 user",
        "× faster",
        "ms a user of 4",
        "× faster",
        "NDCG@10",
        "÷ full (95 %)",
        "Recall@500",
        "÷ full",
    ):
        table.add_column(heading, justify="left" if heading == "variant" else "right", no_wrap=True)
    for row in receipt.rows:
        table.add_row(*_cells(row), style="bold" if row.variant == receipt.chosen else None)
    Console(width=max(console.width, 175), highlight=False).print(table)
    for name, command in ELSEWHERE.items():
        console.print(f"{name}: not measured here; {command}", soft_wrap=True)
    console.print(
        f"the cheapest that is not measurably worse, and at least {receipt.least_ratio:.2f} of full:"
        f' variant = "{receipt.chosen}"',
        soft_wrap=True,
        markup=False,
    )


def _cells(row: Row) -> list[str]:
    return [
        row.variant,
        f"{row.bytes:,}",
        f"{row.alone_ms:.3f}",
        _interval(row.alone_speed, "{:.2f}"),
        f"{row.together_ms:.3f}",
        _interval(row.together_speed, "{:.2f}"),
        f"{row.ndcg_10.mean:.4f}",
        _interval(row.ndcg_ratio, "{:.3f}"),
        f"{row.recall_500.mean:.4f}",
        f"{row.recall_ratio.mean:.3f}",
    ]


def _interval(value: Interval, form: str) -> str:
    return f"{form.format(value.mean)} ({form.format(value.low)}…{form.format(value.high)})"


def _variants(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(f"found {name!r}; allowed: {', '.join(VARIANTS)}")
    return (FULL, *(name for name in dict.fromkeys(names) if name != FULL))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/compress.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the build's TOML file")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the file's")
    parser.add_argument(
        "--variants",
        type=_variants,
        default=VARIANTS,
        metavar="NAME,…",
        help=f"beside full, by default all: {', '.join(VARIANTS)}",
    )
    parser.add_argument(
        "--repeats", type=above_zero, default=300, metavar="N", help="of each timed request (default: 300)"
    )
    parser.add_argument(
        "--unfolded",
        action="store_true",
        help="also measure the graph before it is folded (tools/training/folded_ranker.py), for comparison",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where models and receipt go (default: OUTPUT/compression)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
