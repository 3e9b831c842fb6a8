"""Check and measure the GPU profile on whatever GPU is there: one command, one table, one JSON file.

Answers beside float32 on the processor; exact retrieval beside the card's own copy and beside one matrix
product with torch.topk; the ranker; pages over gRPC from the real Triton in the profile gpu_torch, and what
serving adds to the stage itself. Catalogues are made up on the card, from a seed. What this machine lacks is
said in the table, and the rest is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    import torch  # noqa: F401 - before everything else, to say in one line that it is missing
except ImportError:  # pragma: no cover - nothing here works without it
    sys.exit("bench_gpu.py: torch is not installed; pip install torch brings it, with CUDA on Linux")

from python_backend.release import Release
from tools.gpu.card import CPU, CUDA, Card, NoGpuError
from tools.gpu.clock import Clock
from tools.gpu.rows import Row, is_bad, lines
from tools.gpu.sections import Bench, Section, run_section

EXAMPLES = """\
examples:
  python tools/bench_gpu.py
  python tools/bench_gpu.py --json gpu.json --markdown gpu.md
  python tools/bench_gpu.py --release build/releases/3f9a0c51d2e7 --store lmdb://build/store
  python tools/bench_gpu.py --sections copy retrieval
  python tools/bench_gpu.py --device cpu --quick          tries the command; its figures say nothing

exit status: 0 done, 1 a goal was missed or a section failed, 2 bad usage, or no GPU
"""
OK, MISSED, BAD_USAGE = 0, 1, 2
AT_MOST = 540.0
"""Seconds after which no further section or catalogue begins, by default."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        card = Card.find(options.device)
        given = (Release.open(options.release.resolve()), options.store) if options.release else None
    except (NoGpuError, FileNotFoundError, ValueError) as error:
        print(f"bench_gpu.py: {error}", file=sys.stderr)
        return BAD_USAGE
    from tools.gpu.plan import sections_of

    sections = [each for each in sections_of(quick=options.quick) if each.name in options.sections]
    with tempfile.TemporaryDirectory(prefix="tritonrec-gpu-") as folder:
        clock = Clock(card, turns=3 if options.quick else 21, at_most=0.2 if options.quick else 3.0)
        until = time.perf_counter() + options.at_most
        bench = Bench(card, clock, Path(folder), given, until, options.quick, options.seed)
        figures, rows = measure(bench, sections)
    if options.quick:
        figures["quick"] = "tries the command; its figures say nothing"
    print_table(rows, figures)
    for path, text in (
        (options.json, json.dumps(figures, indent=2, allow_nan=False) + "\n"),
        (options.markdown, markdown(rows, figures)),
    ):
        if path:
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
    return MISSED if is_bad(rows) else OK


def measure(bench: Bench, sections: Sequence[Section]) -> tuple[dict[str, Any], list[Row]]:
    """Run `sections`; everything for JSON, and the table's rows."""
    began = time.perf_counter()
    figures: dict[str, Any] = {
        "machine": bench.card.facts(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    rows: list[Row] = []
    for section in sections:

        def say(what: str, name: str = section.name) -> None:
            print(f"[{time.perf_counter() - began:4.0f} s] {name}: {what}", file=sys.stderr, flush=True)

        say("begins")
        figures[section.name], found = run_section(section, bench, say)
        rows += found
    figures["rows"] = [row.to_dict() for row in rows]
    figures["took_seconds"] = time.perf_counter() - began
    return figures, rows


def print_table(rows: Sequence[Row], figures: dict[str, Any]) -> None:
    """The table on the terminal: by rich, or plain where that is not installed."""
    title = "  ".join(f"{name}: {what}" for name, what in figures["machine"].items())
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title)
        for cells in lines(rows):
            print(" | ".join(cells))
        return
    # Wide where nobody looks: a table that is cut off cannot be read later.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    table = Table("", "what", "found", "asked for", "", title="GPU profile")
    for cells in lines(rows):
        table.add_row(*cells, end_section=False)
    console.print(table, markup=False)
    console.print(title, markup=False)
    console.print(f"took {figures['took_seconds']:.0f} s", markup=False)


def markdown(rows: Sequence[Row], figures: dict[str, Any]) -> str:
    """The table for docs/results.md."""
    text = ["| | what | found | asked for | |", "| --- | --- | --- | --- | --- |"]
    text += [f"| {' | '.join(cells)} |" for cells in lines(rows)]
    text += ["", "; ".join(f"{name}: {what}" for name, what in figures["machine"].items())]
    return "\n".join(text) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_gpu.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ("copy", "parity", "retrieval", "ranking", "serving", "tensorrt")
    add = parser.add_argument
    add("--device", choices=(CUDA, CPU), default=CUDA, help=f"default: {CUDA}; {CPU} tries the command")
    add("--sections", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}")
    add(
        "--release",
        type=Path,
        metavar="DIR",
        help="a release's folder, built with --profile gpu_torch (default: one is made up)",
    )
    add("--store", metavar="URL", help="where that release's users are (default: nobody is known)")
    add("--seed", type=int, default=1, metavar="N", help="of all that is made up; default: 1")
    add(
        "--at-most",
        type=float,
        default=AT_MOST,
        metavar="SECONDS",
        help=f"after which nothing further begins; default: {AT_MOST:.0f}",
    )
    add("--quick", action="store_true", help="small catalogues, few repeats: to try the command")
    add("--json", type=Path, metavar="FILE", help="write every figure there")
    add("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
