"""Several seeds of one configuration, built and measured as served: the tables of docs/results.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import t as student_t

from tools.build_repo import BAD_INPUT, FAILED, OK, STEPS
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.data.dataset import load_dataset
from tools.data.gather import Gathered
from tools.data.problems import DataProblems
from tools.evaluation.evaluation import RANK, RERANK, RERANK_DEFAULT, RETRIEVE
from tools.evaluation.metrics import Interval, hit_rate, mean_interval, ndcg, paired_ratio, recall
from tools.progress import Steps
from tools.releases.build import build_release, find_built, fingerprint_of
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tools/results.py
  python tools/results.py --config mine.toml --seeds 1 2 3

exit status: 0 done, 1 a check failed or a server was missing, 2 the configuration or the data need a change
"""
Ranks = dict[str, np.ndarray[Any, np.dtype[np.int64]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build every seed that is not there yet and print the tables; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config)
        built = [_build(config, seed, options.output) for seed in options.seeds]
    except (ConfigError, DataProblems) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except (CheckFailed, ServerUnavailableError) as error:
        print(f"results.py: {error}", file=sys.stderr)
        return FAILED
    print("\n".join([*quality_table(options.seeds, built), "", *summary(built)]))
    return OK


def _build(config: BuildConfig, seed: int, output: Path) -> Path:
    """The release of `config` with `seed`, reused where it was built before."""
    console = Console(highlight=False)
    config = config.model_copy(update={"seed": seed, "output": output})
    fingerprint = fingerprint_of(config)
    release = find_built(config, fingerprint)
    if release is None:
        console.print(f"seed {seed}")
        steps = Steps(STEPS - 2, console)
        release = build_release(config, Gathered.from_files(load_dataset(config)), fingerprint, steps)
    return release


def read_ranks(release: Path) -> Ranks:
    """Per method the rank of each test user's item in the release's served lists."""
    with np.load(release / "report" / "ranks.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def quality_table(seeds: Sequence[int], releases: Sequence[Path]) -> list[str]:
    """A Markdown table with a row per seed."""
    lines = [
        "| seed | release | retrieve NDCG@10 | Recall@500 | rank NDCG@10 | page NDCG@10 (95 %) | HR@10"
        " | best baseline | ÷ baseline | coverage@20 | default page NDCG@10 | NDCG@20 |",
        "| " + " | ".join(["---"] * 12) + " |",
    ]
    for seed, release in zip(seeds, releases, strict=True):
        ranks, metrics = read_ranks(release), _metrics(release)
        page = mean_interval(ndcg(ranks[RERANK], 10))
        best = metrics["headline"]["best_baseline"]
        baseline = ndcg(ranks[best], 10).mean()
        cells = [
            str(seed),
            release.name,
            f"{ndcg(ranks[RETRIEVE], 10).mean():.4f}",
            f"{recall(ranks[RETRIEVE], 500).mean():.4f}",
            f"{ndcg(ranks[RANK], 10).mean():.4f}",
            f"{page.mean:.4f} ({page.low:.3f}–{page.high:.3f})",
            f"{hit_rate(ranks[RERANK], 10).mean():.4f}",
            f"{best} {baseline:.4f}",
            f"{page.mean / baseline:.2f}",
            f"{metrics['headline']['coverage_20']:.1%}",
            _change(ranks, 10),
            _change(ranks, 20),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def summary(releases: Sequence[Path]) -> list[str]:
    """Means over the seeds, with intervals over the users: each user's figure is the mean of the seeds."""
    ranks = [read_ranks(release) for release in releases]
    headlines = [_metrics(release)["headline"] for release in releases]
    best = [headline["best_baseline"] for headline in headlines]

    def users(method: str | Sequence[str], k: int) -> np.ndarray[Any, Any]:
        names = [method] * len(ranks) if isinstance(method, str) else method
        return np.mean([ndcg(of[name], k) for of, name in zip(ranks, names, strict=True)], axis=0)

    rows: list[tuple[str, Interval]] = [
        ("page NDCG@10, diversity 0", mean_interval(users(RERANK, 10))),
        ("÷ best baseline", paired_ratio(users(RERANK, 10), users(best, 10))),
        ("retrieve NDCG@10", mean_interval(users(RETRIEVE, 10))),
        ("rank NDCG@10 ÷ retrieve NDCG@10", paired_ratio(users(RANK, 10), users(RETRIEVE, 10))),
        ("default page ÷ plain page, NDCG@10", paired_ratio(users(RERANK_DEFAULT, 10), users(RERANK, 10))),
        ("default page ÷ plain page, NDCG@20", paired_ratio(users(RERANK_DEFAULT, 20), users(RERANK, 20))),
    ]
    lines = ["| mean of the seeds | | 95 % interval |", "| --- | --- | --- |"]
    lines += [f"| {name} | {row.mean:.4f} | {row.low:.4f} … {row.high:.4f} |" for name, row in rows]
    gains = [ndcg(of[RANK], 10).mean() / ndcg(of[RETRIEVE], 10).mean() for of in ranks]
    if len(gains) > 1:
        mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1)) / len(gains) ** 0.5
        half = student_t.ppf(0.975, len(gains) - 1) * error
        low, high = mean - half, mean + half
        lines.append(f"| rank ÷ retrieve, paired over the seeds (t) | {mean:.4f} | {low:.4f} … {high:.4f} |")
    plain: list[tuple[str, Callable[[int], float]]] = [
        ("retrieve Recall@500", lambda seed: float(recall(ranks[seed][RETRIEVE], 500).mean())),
        ("default page coverage@20", lambda seed: float(headlines[seed]["coverage_20"])),
    ]
    for name, figure in plain:
        values = [figure(seed) for seed in range(len(ranks))]
        lines.append(f"| {name} | {np.mean(values):.4f} | seeds: {min(values):.4f} … {max(values):.4f} |")
    return lines


def _change(ranks: Ranks, k: int) -> str:
    plain, varied = ndcg(ranks[RERANK], k).mean(), ndcg(ranks[RERANK_DEFAULT], k).mean()
    return f"{varied:.4f} ({varied / plain - 1:+.1%})"


def _metrics(release: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((release / "report" / "metrics.json").read_text(encoding="utf-8"))
    return content


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/results.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Path("tools/config/movielens-100k.toml")
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=f"default: {default}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="N")
    parser.add_argument(
        "--output", type=Path, default=Path("build/results"), metavar="DIR", help="default: build/results"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
