"""Measure whether exploration and its estimates are right: on users whose click rates are known, and on logs.

1. Made-up users, page by page through the stage that serves: how often the 95 % interval covers the truth,
   for logs by epsilon and by Thompson sampling, each judging the other method with another ranker.
2. The Open Bandit Dataset: the click rate of its Thompson sampling estimated from its uniformly random log,
   beside what it earned itself in the same week; and the other way round. Fetched where it is missing.
3. What a drawn place costs.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from python_backend.exploration import chances_of_highest
from tools.data.fetch import SOURCES, FetchError, fetch
from tools.evaluation.metrics import Interval
from tools.evaluation.off_policy import OffPolicyReport, importance_weights, ips, off_policy_report, snips
from tools.progress import Steps
from tools.synthetic.clicks import World

OK, FAILED = 0, 1
METHODS = ("epsilon", "thompson")
CAMPAIGNS = ("all", "men", "women")
PLACES = 3
"""Items on a page of the Open Bandit Dataset."""
SIMULATIONS = 100_000
"""Draws that the policy's probabilities are worked out from, as the data set's authors do."""
POOL, REPEATS = 20, 50

EXAMPLES = """\
examples:
  python tools/bench_exploration.py                      # about half a minute on one core
  python tools/bench_exploration.py --runs 1000 --json
  python tools/bench_exploration.py --data build/data    # where the Open Bandit Dataset is, or goes

exit status: 0 done, 1 the data set could not be fetched
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    steps = Steps(4, Console(stderr=True, highlight=False))
    source = SOURCES["open-bandit"]
    try:
        with steps.step("fetching the Open Bandit Dataset"):
            fetch(source, options.data)
    except FetchError as error:
        print(f"bench_exploration.py: {error}", file=sys.stderr)
        return FAILED
    with steps.step("made-up users") as update:
        coverage = {}
        for number, method in enumerate(METHODS):
            update(number, len(METHODS), method)
            coverage[method] = measure_coverage(method, options.runs, options.pages)
    with steps.step("Open Bandit Dataset"):
        bandit = {campaign: replay(options.data / source.folder, campaign) for campaign in CAMPAIGNS}
    with steps.step("what a drawn place costs"):
        cost = {rows: milliseconds_per_place(rows) for rows in (1, 16)}
    if options.json:
        reports = {
            campaign: {name: _plain(value) for name, value in found.items()}
            for campaign, found in bandit.items()
        }
        print(json.dumps({"coverage": coverage, "bandit": reports, "milliseconds_per_place": cost}, indent=2))
    else:
        _show(coverage, bandit, cost, Console(highlight=False))
    return OK


def measure_coverage(method: str, runs: int, pages: int) -> dict[str, float]:
    """How often the intervals of `runs` logs of so many `pages` cover the truth, and what that is."""
    world = World(method)
    truth = world.truth()
    draws = world.draw(runs * pages, seed=1)
    weights = importance_weights(draws.propensity, draws.wanted)
    places = len(weights) // (runs * pages)
    groups = np.repeat(np.arange(pages), places)
    covered = {ips: 0, snips: 0}
    for rewards, of_run in zip(np.split(draws.rewards, runs), np.split(weights, runs), strict=True):
        for estimate in covered:
            found = estimate(rewards, of_run, groups)
            covered[estimate] += found.low <= truth <= found.high
    return {
        "runs": runs,
        "draws_per_run": pages * places,
        "truth": truth,
        "logged": float(draws.rewards.mean()),
        "mean_of_ips": float((weights * draws.rewards).mean()),
        "covered_by_ips": covered[ips] / runs,
        "covered_by_snips": covered[snips] / runs,
    }


def replay(folder: Path, campaign: str) -> dict[str, Any]:
    """Either policy's click rate from the other one's log, and what each earned itself."""
    random, thompson = (_log(folder / name / campaign / f"{campaign}.csv") for name in ("random", "bts"))
    alpha, beta = _prior(folder / "policy" / "conf" / "prior_bts.yaml", campaign)
    policy = policy_of(alpha, beta)
    ours = chances_of_highest(alpha[None], beta[None], np.ones((1, len(alpha)), bool))[0]
    wanted = policy[random["place"], random["item"]]
    uniform = np.full(len(thompson["item"]), 1 / len(alpha))
    return {
        "thompson": off_policy_report(random["click"], random["propensity"], wanted),
        "thompson_itself": ips(thompson["click"], np.ones(len(thompson["click"]))),
        "random": off_policy_report(thompson["click"], thompson["propensity"], uniform),
        "random_itself": ips(random["click"], np.ones(len(random["click"]))),
        "largest_error_of_the_integral": float(np.abs(ours - policy[0]).max()),
    }


def policy_of(alpha: NDArray[Any], beta: NDArray[Any]) -> NDArray[np.float64]:
    """The probability of each item at each place of a page by Thompson sampling, ``[PLACES, items]``."""
    random = np.random.default_rng(0)
    counts = np.zeros((PLACES, len(alpha)))
    for _ in range(100):
        draws = random.beta(alpha, beta, (SIMULATIONS // 100, len(alpha)))
        best = np.argsort(-draws, axis=1)[:, :PLACES]
        counts += [np.bincount(best[:, place], minlength=len(alpha)) for place in range(PLACES)]
    return counts / SIMULATIONS


def milliseconds_per_place(rows: int) -> float:
    """The median time that Thompson sampling takes for a place of a batch of so many `rows`."""
    random = np.random.default_rng(0)
    alpha, beta = random.gamma(1, 20, (rows, POOL)) + 0.1, random.gamma(2, 100, (rows, POOL)) + 1
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        chances_of_highest(alpha, beta, np.ones(alpha.shape, bool))
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)) * 1000


def _prior(path: Path, campaign: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The `campaign`'s alphas and betas: the file is a tree of names, three deep, with numbers for leaves."""
    found: dict[str, list[float]] = {"alpha": [], "beta": []}
    section = key = ""
    for line in path.read_text("utf-8").splitlines():
        word = line.strip()
        if word.startswith("- "):
            if section == campaign:
                found[key].append(float(word.removeprefix("- ")))
        elif line.startswith(" "):
            key = word.rstrip(":")
        elif word:
            section = word.rstrip(":")
    return np.array(found["alpha"]), np.array(found["beta"])


def _log(path: Path) -> dict[str, NDArray[Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (
                int(row["position"]) - 1,
                int(row["item_id"]),
                float(row["click"]),
                float(row["propensity_score"]),
            )
            for row in csv.DictReader(file)
        ]
    place, item, click, propensity = (np.array(column) for column in zip(*rows, strict=True))
    return {"place": place, "item": item, "click": click, "propensity": propensity}


def _show(
    coverage: dict[str, dict[str, float]],
    bandit: dict[str, dict[str, Any]],
    cost: dict[int, float],
    console: Console,
) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="made-up users: 95 % intervals that cover the truth")
    for name in ("logged by", "runs", "draws each", "truth", "mean of IPS", "as logged", "IPS", "SNIPS"):
        table.add_column(name, justify="left" if name == "logged by" else "right", no_wrap=True)
    for method, found in coverage.items():
        table.add_row(
            *(method, f"{found['runs']:,}", f"{found['draws_per_run']:,}", f"{found['truth']:.4f}"),
            *(f"{found['mean_of_ips']:.4f}", f"{found['logged']:.4f}"),
            *(f"{found['covered_by_ips']:.1%}", f"{found['covered_by_snips']:.1%}"),
        )
    wide = Console(width=max(console.width, 170), highlight=False)
    wide.print(table)
    table = Table(box=box.SIMPLE_HEAD, title="Open Bandit Dataset: clicks per view, with 95 % intervals")
    for name in (
        "campaign",
        "policy",
        "itself",
        "IPS",
        "IPS, bootstrap",
        "SNIPS",
        "mean weight",
        "effective",
    ):
        table.add_column(name, justify="left" if name in ("campaign", "policy") else "right", no_wrap=True)
    for campaign, replayed in bandit.items():
        for policy in ("thompson", "random"):
            report: OffPolicyReport = replayed[policy]
            table.add_row(
                *(campaign, policy, _rate(replayed[f"{policy}_itself"]), _rate(report.ips)),
                *(_rate(report.ips_bootstrap), _rate(report.snips)),
                *(f"{report.mean_weight.mean:.2f}", f"{report.effective_draws:,.0f} of {report.draws:,}"),
            )
    wide.print(table)
    errors = ", ".join(f"{each['largest_error_of_the_integral']:.4f}" for each in bandit.values())
    console.print(f"largest error of the integral against {SIMULATIONS:,} draws: {errors}")
    console.print(
        "Thompson sampling, a pool of 20: "
        + ", ".join(f"{each:.2f} ms a place for {rows} rows" for rows, each in cost.items()),
        soft_wrap=True,
    )


def _rate(value: Interval) -> str:
    return f"{value.mean:.2%} ({value.low:.2%} … {value.high:.2%})"


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, OffPolicyReport | Interval) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bench_exploration.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runs", type=int, default=2000, metavar="N", help="logs of made-up users (default: 2000)"
    )
    parser.add_argument("--pages", type=int, default=400, metavar="N", help="of each log (default: 400)")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("build/data"),
        metavar="DIR",
        help="where data sets are (default: build/data)",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
