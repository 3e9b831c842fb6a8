"""What `load.py`, `capacity.py` and the locustfile may be told, and what they make of it."""

from __future__ import annotations

import argparse
import csv
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from python_backend.stores import StoreUnavailable
from tools.load.calls import Feedback
from tools.load.report import Setting
from tools.load.schedule import Step
from tools.load.slo import Slo
from tools.load.visitors import Audience, read_users, stored_users
from tools.releases.folder import NoReleaseError, find_release
from tools.serving.served import ServedRepository, open_release

RECOMMEND, FEEDBACK = "recommend", "feedback"


class BadOptions(ValueError):
    """Options that cannot be followed; the message names the option."""


def add_arguments(parser: Any, *, steps: bool = True) -> None:
    """The options that every way to run the load shares; with `steps` also how long each lasts."""
    add = parser.add_argument
    add("--address", default="127.0.0.1:8001", metavar="HOST:PORT", help="gRPC; default: 127.0.0.1:8001")
    add("--metrics-port", type=int, default=8002, metavar="N", help="of the same server; default: 8002")
    add(
        "--build",
        type=Path,
        default=Path("build"),
        metavar="DIR",
        help="releases and the store; default: build",
    )
    add("--store", metavar="URL", help="where users' ids come from (default: the build's LMDB)")
    add("--users-from", metavar="FILE|A-B", help="users' ids instead: a file, one a line, or a range")
    add(
        "--mix",
        choices=(RECOMMEND, FEEDBACK),
        default=RECOMMEND,
        help=f"{RECOMMEND} alone, or {FEEDBACK}: pages and events, which are WRITTEN to the store",
    )
    add(
        "--rate", type=_rates, default=[50.0], metavar="N[,N…]", help="arrivals/s, one step each; default: 50"
    )
    if steps:
        add("--duration", type=_seconds, default=30.0, metavar="SECONDS", help="of each step; default: 30")
    add("--warm-up", type=_seconds_or_none, default=5.0, metavar="SECONDS", help="not counted; default: 5")
    add("--slo", metavar="LIMITS", help="for example p99=30ms,errors=0; exit status 1 when missed")
    add("--zipf", type=float, default=1.0, metavar="S", help="exponent of users and items; default: 1")
    add("--unknown", type=_share, default=0.05, metavar="SHARE", help="users nobody knows; default: 5%%")
    add("--anonymous", type=_share, default=0.1, metavar="SHARE", help="visits without a name; default: 10%%")
    add("--timeout", type=_seconds, default=1.0, metavar="SECONDS", help="of a request; default: 1")
    add(
        "--deadline",
        type=_seconds,
        metavar="SECONDS",
        help="after which an answer is of no use: what is late is refused (default: --timeout)",
    )
    add(
        "--patience",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="later arrivals are skipped; default: 1",
    )
    add(
        "--in-flight",
        type=int,
        default=2000,
        metavar="N",
        help="with more unanswered, arrivals are skipped; default: 2000",
    )
    add("--seed", type=int, default=1, metavar="N", help="of arrivals and visitors; default: 1")
    add(
        "--out",
        type=Path,
        default=Path("build/load"),
        metavar="DIR",
        help="of the report; default: build/load",
    )


def steps(options: Namespace) -> list[Step]:
    """The warm-up, at the first rate, and a step per rate."""
    warm_up = [Step(options.rate[0], options.warm_up, counted=False)] if options.warm_up else []
    return [*warm_up, *(Step(rate, options.duration) for rate in options.rate)]


def slo(options: Namespace) -> Slo | None:
    """The objective, if there is one. Raises SloError."""
    return None if options.slo is None else Slo.parse(options.slo)


def feedback(options: Namespace) -> Feedback | None:
    """What visitors do with their pages, where that was asked for."""
    return Feedback() if options.mix == FEEDBACK else None


def store_url(options: Namespace) -> str:
    """The store whose users come."""
    return options.store or f"lmdb://{options.build.resolve() / 'store'}"


def audience(options: Namespace) -> Audience:
    """The users of the store, or those that were named, and the items of the active release, if it is here.

    Raises BadOptions.
    """
    if options.in_flight < 1:
        raise BadOptions(f"--in-flight: found {options.in_flight}; it must be at least 1")
    try:
        users = read_users(options.users_from) if options.users_from else stored_users(store_url(options))
    except (OSError, ValueError, StoreUnavailable) as error:
        raise BadOptions(f"users: {error}; name some with --users-from FILE or --users-from 1-943") from error
    try:
        return Audience(
            users, _items(options.build.resolve()), options.zipf, options.unknown, options.anonymous
        )
    except ValueError as error:
        raise BadOptions(str(error)) from error


def metrics_address(options: Namespace) -> str:
    """Where the metrics of the server are."""
    return f"{options.address.rpartition(':')[0]}:{options.metrics_port}"


def setting(options: Namespace, title: str = "Load test") -> Setting:
    """What the report says about the run."""
    hidden = {"address", "metrics_port", "mix", "slo", "writes_own_report", "out"}
    names = [action.dest for action in _known() if action.dest not in hidden]
    shown = {name.replace("_", " "): str(getattr(options, name)) for name in names if hasattr(options, name)}
    return Setting(title, options.address, options.mix, shown)


def _known() -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return parser._actions


def _items(build: Path) -> NDArray[np.int64]:
    """The active release's items; none where it is not on this machine."""
    try:
        active = ServedRepository(build / "served").active
        release = open_release(build, active) if active else find_release(build)
    except (NoReleaseError, OSError, ValueError):
        return np.zeros(0, np.int64)
    with (release.artifacts / "items.tsv").open(encoding="utf-8", newline="") as file:
        return np.array([int(row["item_id"]) for row in csv.DictReader(file, delimiter="\t")], np.int64)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"found {text!r}; {what} is a number above 0")
    return value


def _seconds(text: str) -> float:
    return _number(text, "this")


def _seconds_or_none(text: str) -> float:
    return 0.0 if text.strip() == "0" else _number(text, "this, unless 0,")


def _rates(text: str) -> list[float]:
    return [_number(part, "a rate") for part in text.split(",")]


def _share(text: str) -> float:
    value = text.removesuffix("%")
    try:
        share = float(value) / (100 if value != text else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; a share is 0 to 1 or 0% to 100%")
    return share
