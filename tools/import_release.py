"""Bring the first release onto a volume: import one, or build it, and fill the feature store.

To be run again at will: what is there already stays as it is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from python_backend.release import Release
from python_backend.stores import StoreUnavailable, open_event_log, open_store
from tools.checks import CheckFailed
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.data.fetch import FetchError, fetch_missing
from tools.data.problems import DataProblems
from tools.progress import Steps
from tools.releases.folder import LATEST, NoReleaseError, find_releases
from tools.releases.imports import import_release, release_in
from tools.releases.manifest import read_manifest

EXAMPLES = """\
examples:
  python tools/import_release.py --build=/releases --config=build.toml                  # builds the first one
  python tools/import_release.py --build=/releases --from=/image                        # copies the newest
  python tools/import_release.py --build=/releases --from=/bucket --release=3f9a0c51d2e7
  python tools/import_release.py --build=/releases --from=/image --config=build.toml    # and fills the store

exit status: 0 done, or nothing to do, 1 a check failed or a server was missing, 2 the usage, the
configuration or the data need a change
"""
OK, FAILED, BAD_INPUT = 0, 1, 2
STORE_PATIENCE = 10.0
LOOK_AGAIN = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    if options.source is None and options.config is None:
        return _complain("needs --from, --config or both", BAD_INPUT)
    if options.release != LATEST and options.source is None:
        return _complain("--release needs --from: what is built is not known by name before", BAD_INPUT)
    console = Console(highlight=False, soft_wrap=True)
    try:
        config = None
        if options.config is not None:
            config = load_config(options.config).model_copy(update={"output": options.build})
            _await_store(config.store.url, options.wait, console)
        if options.source is not None:
            release = _import(options.source, options.release, options.build, console)
        else:
            found = find_releases(options.build)
            if not found:
                assert config is not None
                fetch_missing(config.data.events.path, console.print)
                return _build(options)
            release = found[-1]
            console.print(f"release {release.name} is there; nothing to build")
        if config is not None:
            _fill(config, release, console)
        return OK
    except (ConfigError, DataProblems) as error:
        return _complain(error, BAD_INPUT)
    except (CheckFailed, FetchError, NoReleaseError, StoreUnavailable, OSError, ValueError) as error:
        return _complain(error, FAILED)


def _await_store(url: str, patience: float, console: Console) -> None:
    """Return when the store answers: who is applied together starts in any order. Raises StoreUnavailable."""
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            with open_event_log(url, timeout=STORE_PATIENCE) as log:
                log.end()
            return
        except StoreUnavailable as error:
            if time.monotonic() >= end:
                raise
            if not told:
                console.print(f"{error}; waiting for it", markup=False)
                told = True
        time.sleep(LOOK_AGAIN)


def _import(source: Path, name: str, build: Path, console: Console) -> Release:
    found = release_in(source, name)
    with Steps(1, console).step(f"importing release {found.name}") as update:
        release, copied = import_release(found, build, lambda done, total: update(done, total, "files"))
    where = build / "releases" / release.name
    console.print(f"{where}: {'every file is as it was built' if copied else 'was there, and is whole'}")
    return release


def _build(options: argparse.Namespace) -> int:
    # After what fails quickly: it brings training.
    from tools.build_repo import main as build

    return build(["--config", str(options.config), "--output", str(options.build)])


def _fill(config: BuildConfig, release: Release, console: Console) -> None:
    """Fill the store of `config`, unless it knows a user of `release`; who came first may be dead."""
    from tools.data.fill import fill
    from tools.data.gather import gather
    from tools.data.store import holds_user

    example = read_manifest(release.path).get("examples", {}).get("heavy_user_id")
    with open_store(config.store.url, timeout=STORE_PATIENCE) as store:
        if example is not None and holds_user(store, example):
            console.print("the feature store is filled")
            return
    fetch_missing(config.data.events.path, console.print)
    steps = Steps(2, console)
    with steps.step("reading and checking the data") as update:
        gathered = gather(config, lambda what, rows: update(rows, rows, f"{what}: {rows:,} rows"))
    with steps.step("filling the feature store") as update:
        fill(config, gathered, lambda done, total: update(done, total, "users"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/import_release.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--build", type=Path, required=True, metavar="DIR", help="the volume: releases/NAME")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="a release, or a folder of them, to copy"
    )
    parser.add_argument(
        "--release", default=LATEST, metavar="NAME", help=f"which one to copy (default: {LATEST})"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="what to build the first release from, where nothing is to be copied; and whom the store holds",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=900.0,
        metavar="SECONDS",
        help="for the feature store to answer, where there is a configuration (default: 900)",
    )
    return parser


def _complain(error: object, status: int) -> int:
    print(f"import_release.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
