"""Releases: list and compare them, switch what a running server serves, go back, tidy up."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from python_backend.release import Release
from tools.arguments import above_zero
from tools.checks import CheckFailed
from tools.config.build import ConfigError, load_config
from tools.progress import Steps
from tools.releases.folder import LATEST, NoReleaseError, find_release
from tools.releases.manifest import read_manifest
from tools.serving import difference
from tools.serving.catalogue import Entry, catalogue, prunable, remove_release
from tools.serving.lock import Busy, exclusively
from tools.serving.served import open_release
from tools.serving.steps import STEPS, ActivationRefused, NotServed, Show

if TYPE_CHECKING:
    from tools.serving.activation import Gates

EXAMPLES = """\
examples:
  python tools/release.py list
  python tools/release.py activate latest
  python tools/release.py activate 3f9a0c51d2e7 --force --reason "new catalogue, old figures do not compare"
  python tools/release.py activate 3f9a0c51d2e7 --offline      # for the next start of serve.py
  python tools/release.py rollback
  python tools/release.py diff 3f9a0c51d2e7 latest
  python tools/release.py prune --keep 3 --dry-run

exit status: 0 done, 1 refused or no server, and what served before serves on, 2 bad usage
"""
OK, FAILED, BAD_USAGE = 0, 1, 2
DAY = "%Y-%m-%d"
WIDE = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    options.build = options.build.resolve()
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (ActivationRefused, Busy, NotServed) as error:
        return _complain(error, FAILED)
    except (CheckFailed, ConfigError, NoReleaseError, OSError, ValueError) as error:
        return _complain(error, BAD_USAGE)


def _list(options: argparse.Namespace) -> int:
    entries = catalogue(options.build)
    if not entries:
        raise NoReleaseError(f"no release in {options.build / 'releases'}")
    table = _table("release", "name", "created", "data", "events", "NDCG@10", "coverage@20", "state")
    for entry in entries:
        table.add_row(*_row(entry))
    _print(table)
    return OK


def _row(entry: Entry) -> list[str]:
    state = ", ".join(entry.parts)
    if entry.problem:
        return [entry.name, *[""] * 6, f"{state} [red]broken[/red]: {entry.problem}".strip()]
    data = entry.manifest.get("data", {})
    days = [_day(data[end]) if data.get(end) else "?" for end in ("first", "last")]
    ndcg, coverage = entry.figure("ndcg_10"), entry.figure("coverage_20")
    return [
        entry.name,
        str(entry.manifest.get("name", "")),
        str(entry.manifest.get("created", ""))[:16].replace("T", " "),
        " – ".join(days),
        f"{data.get('events', 0):,}",
        "" if ndcg is None else f"{ndcg:.3f}",
        "" if coverage is None else f"{coverage:.1%}",
        state,
    ]


def _table(*columns: str) -> Table:
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    return table


def _print(table: Table) -> None:
    if table.row_count:
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = WIDE  # in a file or a pipe nothing needs to be cut
        console.print(table)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(DAY)


def _activate(options: argparse.Namespace) -> int:
    if options.force != bool(options.reason):
        return _complain("--force and --reason go together: say why the gates do not count", BAD_USAGE)
    release = _find(options.build, options.release)
    gates = _gates(options.config)
    if options.offline:
        return _activate_offline(options, release, gates)
    console = Console(highlight=False, soft_wrap=True)
    # After what fails quickly: it brings gRPC.
    from tools.serving.activation import Control

    show = _shown(console, len(STEPS))
    with Control(
        options.build, options.address, wait=options.wait, show=show, say=_said_on(console)
    ) as control:
        control.activate(release, gates=gates, forced=options.reason)
    console.print(f"serving release {release.name}")
    return OK


def _activate_offline(options: argparse.Namespace, release: Release, gates: Gates) -> int:
    from tools.serving.offline import activate_offline

    console = Console(highlight=False, soft_wrap=True)
    activate_offline(
        options.build,
        release,
        address=options.address,
        gates=gates,
        forced=options.reason,
        wait=options.wait,
        show=_shown(console, 4),
        say=_said_on(console),
    )
    console.print(f"the next serve.py serves release {release.name}")
    return OK


def _rollback(options: argparse.Namespace) -> int:
    from tools.serving.activation import Control

    console = Console(highlight=False, soft_wrap=True)
    show = _shown(console, len(STEPS))
    with Control(
        options.build, options.address, wait=options.wait, show=show, say=_said_on(console)
    ) as control:
        release = control.rollback()
    console.print(f"serving release {release.name} again")
    return OK


def _prune(options: argparse.Namespace) -> int:
    with exclusively(options.build / "served", wait=options.wait, say=print):
        folders = prunable(options.build, options.keep)
        for folder in folders:
            if not options.dry_run:
                remove_release(folder)
            print(f"{'would remove' if options.dry_run else 'removed'} {folder}")
    if not folders:
        print(f"nothing to remove: what is not in use is among the {options.keep} newest")
    return OK


def _diff(options: argparse.Namespace) -> int:
    first, second = (_find(options.build, name) for name in (options.first, options.second))
    ours, theirs = read_manifest(first.path), read_manifest(second.path)
    table = _table("measured as served", first.name, second.name, "difference")
    for name, one, other in difference.figures(ours, theirs):
        change = "" if one is None or other is None else f"{other - one:+.4f}"
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in (one, other)), change)
    _print(table)
    table = _table("differs", first.name, second.name)
    for name, before, after in difference.settings(ours, theirs):
        table.add_row(name, _said(name, before), _said(name, after))
    _print(table)
    rooms = difference.files(ours, theirs)
    for room, counts in rooms.items():
        print(f"files in {room}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    if not rooms:
        print("every file is the same")
    return OK


def _said(name: str, value: object) -> str:
    if name in {"data.first", "data.last"} and isinstance(value, int | float):
        return _day(value)
    return "" if value is None else str(value)


def _find(build: Path, name: str) -> Release:
    return find_release(build, name) if name == LATEST else open_release(build, name)


def _gates(config: Path | None) -> Gates:
    """The gates of the file `config`, else those that a release was built with."""
    from tools.releases.gates import judge, judge_release

    if config is None:
        return judge_release
    gates = load_config(config).gates
    return lambda release, active: judge(release.path, active.path if active else None, gates)


def _said_on(console: Console) -> Callable[[str], None]:
    """Plain text: what is in brackets is no markup."""
    return lambda text: console.print(text, markup=False)


def _shown(console: Console, total: int) -> Show:
    steps = Steps(total, console)

    @contextmanager
    def show(name: str) -> Iterator[None]:
        with steps.step(STEPS[name]):
            yield

    return show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/release.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        added.add_argument(
            "--build",
            type=Path,
            default=Path("build"),
            metavar="DIR",
            help="where releases are (default: build)",
        )
        return added

    def add_server(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--address", default="localhost:8001", metavar="HOST:PORT", help="gRPC (default: localhost:8001)"
        )

    def add_wait(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--wait",
            type=float,
            default=600.0,
            metavar="SECONDS",
            help="for another activation (default: 600)",
        )

    add("list", _list, "every release, newest first")
    activate = add("activate", _activate, "check a release and have the server switch to it")
    activate.add_argument("release", help=f"12 hexadecimal digits, or {LATEST}")
    activate.add_argument("--force", action="store_true", help="although it fails gates; needs --reason")
    activate.add_argument("--reason", metavar="TEXT", help="kept in the release's manifest")
    activate.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="whose [gates] count (default: those of the release's build)",
    )
    activate.add_argument(
        "--offline", action="store_true", help="without a server: the next serve.py serves it"
    )
    rollback = add("rollback", _rollback, "have the server switch to the release that was active before")
    prune = add("prune", _prune, "remove old releases; never the active, the previous or an arm's one")
    prune.add_argument(
        "--keep", type=above_zero, default=3, metavar="N", help="how many of the newest (default: 3)"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say which")
    diff = add("diff", _diff, "how two releases differ")
    diff.add_argument("first")
    diff.add_argument("second")
    for command in (activate, rollback):
        add_server(command)
    for command in (activate, rollback, prune):
        add_wait(command)
    return parser


def _complain(error: object, status: int) -> int:
    print(f"release.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    # What serves comes first.
    os.nice(10)
    sys.exit(main())
