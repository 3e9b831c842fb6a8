"""Estimate what a release would have earned at the places that were drawn while another one served.

Pages of a release with [rerank.exploration] say how likely each drawn item was, and record_page logs that
with every view. The release in question is asked what it would have put into each drawn place, below the same
items, for the same user as the user was then. From that and from what was clicked follows its click rate, by
IPS and by SNIPS, without serving it to anybody.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from tritonrec_client.contract import DEFAULT_DIVERSITY, Event

from python_backend.release import Release
from python_backend.stores import StoreUnavailable, open_event_log, open_store
from python_backend.stores.events import CorruptEvent
from tools.data.impressions import Impression, impressions
from tools.evaluation.metrics import Interval
from tools.evaluation.off_policy import OffPolicyReport, off_policy_report
from tools.progress import Steps
from tools.releases.folder import LATEST, NoReleaseError, find_release

OK, FAILED, BAD_INPUT = 0, 1, 2
PATIENCE = 10.0
"""Seconds that a look into the store may take."""
DAY = 24 * 3600

FEW = 100
"""Below so many effective draws an interval is not to be trusted."""

EXAMPLES = """\
examples:
  python tools/off_policy.py                             # the newest release of build/
  python tools/off_policy.py 708b79d7d4b6 --since 2026-05-01
  python tools/off_policy.py 708b79d7d4b6 --reward purchase --window 604800
  python tools/off_policy.py 708b79d7d4b6 --store redis://localhost:6379/0 --json
  python tools/off_policy.py 708b79d7d4b6 --clip 20      # cut weights: less noise, some bias

exit status: 0 done, 1 the store or the release failed, or nothing was drawn, 2 an argument needs a change
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        release = find_release(options.build, options.release or LATEST)
        url = options.store or f"lmdb://{options.build.resolve() / 'store'}"
        report = _estimate(release, url, options, Console(stderr=True, highlight=False))
    except (NoReleaseError, _BadInput) as error:
        return _complain(error, BAD_INPUT)
    except (StoreUnavailable, CorruptEvent) as error:
        return _complain(error, FAILED)
    if report is None:
        words = "the log has no views of drawn places; see [rerank.exploration] and record_page"
        return _complain(words, FAILED)
    if options.json:
        content = {"release": release.name, "reward": options.reward} | report.to_dict()
        print(json.dumps(_finite(content), indent=2, allow_nan=False))
    else:
        _show(report, release, options.reward, Console(highlight=False))
    return OK


class _BadInput(ValueError):
    """Something that the caller has to change; the message says what."""


def _estimate(
    release: Release, url: str, options: argparse.Namespace, console: Console
) -> OffPolicyReport | None:
    """The estimates for `release`; None where nothing was drawn."""
    from tools.evaluation.candidate_policy import chances_of_views

    steps = Steps(2, console)
    try:
        log, store = open_event_log(url, timeout=PATIENCE), open_store(url, timeout=PATIENCE)
    except ValueError as error:
        raise _BadInput(str(error)) from error
    with log, store:
        with steps.step("reading the log"):
            found = impressions(log, Event[options.reward.upper()], options.window)
        drawn = [each for each in found if _is_drawn(each, options.since)]
        if not drawn:
            return None
        pages: dict[tuple[int, str | None, int], dict[int, int]] = {}
        for each in found:
            if each.view.place is not None:
                pages.setdefault(_page_of(each), {})[each.view.place] = each.view.item_id
        with steps.step("asking the release what it would have shown") as update:
            wanted = chances_of_views(
                release,
                [each.view for each in drawn],
                [pages[_page_of(each)] for each in drawn],
                store,
                diversity=options.diversity,
                progress=lambda done, total: update(done, total, "views"),
            )
    return off_policy_report(
        np.array([each.rewarded for each in drawn], dtype=np.float64),
        np.array([each.view.propensity for each in drawn], dtype=np.float64),
        wanted,
        np.array([each.view.user_id for each in drawn], dtype=np.int64),
        clip=options.clip,
    )


def _is_drawn(impression: Impression, since: int | None) -> bool:
    view = impression.view
    if view.place is None or view.propensity is None or view.propensity >= 1:
        return False
    return since is None or view.timestamp >= since


def _page_of(impression: Impression) -> tuple[int, str | None, int]:
    """What the views of one page have in common: `record_page` gives them one time."""
    return impression.view.user_id, impression.view.release, impression.view.timestamp


def _show(report: OffPolicyReport, release: Release, reward: str, console: Console) -> None:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{reward}s per view at drawn places: {report.draws:,} draws of {report.users:,} users",
        title_justify="left",
    )
    for name in ("", "estimate", "95 % interval", "bootstrap"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    table.add_row("as logged", *_cells(report.logged), "")
    table.add_row(f"{release.name}, IPS", *_cells(report.ips), _cells(report.ips_bootstrap)[1])
    table.add_row(f"{release.name}, SNIPS", *_cells(report.snips), _cells(report.snips_bootstrap)[1])
    table.add_row("SNIPS − as logged", *_cells(report.difference), "")
    console.print(table)
    console.print(
        f"effective draws: {report.effective_draws:,.0f} · largest weight: {report.largest_weight:.1f} ·"
        f" mean weight: {report.mean_weight.mean:.3f}"
        f" ({report.mean_weight.low:.3f} … {report.mean_weight.high:.3f}), 1 is expected"
        + (f" · {report.clipped:,} weights were cut" if report.clipped else ""),
        soft_wrap=True,
    )
    if report.effective_draws < FEW:
        console.print(
            f"warning: fewer than {FEW} effective draws; the intervals are not to be trusted", soft_wrap=True
        )
    if not report.mean_weight.low <= 1 <= report.mean_weight.high:
        console.print(
            "warning: the mean weight is not 1: the release shows items that could not be drawn, and its rate"
            " with them is not known; SNIPS is its rate with the others",
            soft_wrap=True,
        )
    console.print("Intervals are over users.")


def _cells(value: Interval) -> tuple[str, str]:
    return f"{value.mean:.4%}", f"{value.low:.4%} … {value.high:.4%}"


def _finite(content: object) -> object:
    """`content` with null for numbers that are none, which JSON does not know."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    return None if isinstance(content, float) and not np.isfinite(content) else content


def _moment(text: str) -> int:
    """Unix seconds of an ISO 8601 date or time, which is UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"found {text!r}; give a date or time such as 2026-05-01 or 2026-05-01T08:00+02:00"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _above(least: float, most: float, words: str) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least < value <= most:
            raise argparse.ArgumentTypeError(f"found {text!r}; give {words}")
        return value

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/off_policy.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "release", nargs="?", metavar="RELEASE", help="the release in question (default: the newest)"
    )
    parser.add_argument(
        "--build",
        type=Path,
        default=Path("build"),
        metavar="DIR",
        help="where releases are (default: build)",
    )
    parser.add_argument("--store", metavar="URL", help="where the log is (default: the build's LMDB)")
    parser.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="leave earlier views out; ISO 8601, UTC unless it says otherwise",
    )
    parser.add_argument(
        "--reward",
        choices=("click", "purchase"),
        default="click",
        help="what counts as success (default: click)",
    )
    parser.add_argument(
        "--window",
        type=_above(0, np.inf, "seconds above 0"),
        default=DAY,
        metavar="SECONDS",
        help="how long after a view it still counts (default: a day)",
    )
    parser.add_argument(
        "--diversity",
        type=_above(0, 1, "a number above 0, up to 1"),
        default=DEFAULT_DIVERSITY,
        metavar="D",
        help=f"of the requests, which no log keeps (default: {DEFAULT_DIVERSITY})",
    )
    parser.add_argument(
        "--clip",
        type=_above(0, np.inf, "a weight above 0"),
        metavar="W",
        help="weights above this count as this (default: none is cut)",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def _complain(error: object, status: int) -> int:
    print(f"off_policy.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
