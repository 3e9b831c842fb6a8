"""Refresh the release that a cluster serves with what was logged since, as a nightly job does.

The volume of releases does not know which of them is served, so the Service is asked. What comes of it lies
on the volume; tools/rollout.py has it served.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from python_backend.release import Release
from python_backend.stores import StoreUnavailable
from tools.checks import CheckFailed
from tools.cluster.service import Service, add_tls_options, tls_given
from tools.config.build import BuildConfig, ConfigError, load_config
from tools.data.fetch import FetchError, fetch_missing
from tools.data.problems import DataProblems
from tools.releases.folder import NoReleaseError
from tools.serving.served import open_release
from tools.serving.wheel import ServerUnavailableError

EXAMPLES = """\
examples:
  python tools/refresh_release.py --config=/etc/tritonrec/build.toml --address=tritonrec:8001
  python tools/refresh_release.py --config=/etc/tritonrec/build.toml       # goes on from the newest release

exit status: 0 done, or nothing new; 1 a check failed, or a server was missing; 2 bad configuration or data
"""
OK, FAILED, BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        config = load_config(options.config)
        served = _served(config, options)
        if served is not None:
            console.print(f"release {served.name} is served at {options.address}")
        fetch_missing(config.data.events.path, console.print)
        # After what fails quickly: it brings training.
        from tools.releases.refresh import refresh

        release = refresh(config, console, served)
    except (ConfigError, DataProblems) as error:
        return _complain(error, BAD_INPUT)
    except (
        CheckFailed,
        FetchError,
        FloatingPointError,
        NoReleaseError,
        OSError,
        ServerUnavailableError,
        StoreUnavailable,
    ) as error:
        return _complain(error, FAILED)
    if release is not None:
        console.print(f"have it served with: python tools/rollout.py set {release.name}")
    return OK


def _served(config: BuildConfig, options: argparse.Namespace) -> Release | None:
    """The release that is served, on the volume. Raises CheckFailed where nothing answers, NoReleaseError."""
    if options.address is None:
        return None
    service = Service(options.address, tls_given(options, os.environ))
    return open_release(config.output.resolve(), service.release())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/refresh_release.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the build's TOML file")
    parser.add_argument("--address", metavar="HOST:PORT", help="the Service that tells what is served (gRPC)")
    add_tls_options(parser)
    return parser


def _complain(error: object, status: int) -> int:
    print(f"refresh_release.py: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
