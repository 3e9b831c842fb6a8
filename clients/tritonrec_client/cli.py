"""The command line `tritonrec`: its commands and their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from tritonrec_client.addresses import parse_addresses
from tritonrec_client.commands import BAD_USAGE, OK, SERVER_TROUBLE, forget, health, recommend, record
from tritonrec_client.contract import DEFAULT_DIVERSITY
from tritonrec_client.errors import InvalidRequest, RecommendError
from tritonrec_client.experiment import Experiment
from tritonrec_client.ids import PSEUDONYM_KEY_VARIABLE, read_pseudonym_key
from tritonrec_client.items import Item, read_items
from tritonrec_client.options import Timeout

__all__ = ["BAD_USAGE", "OK", "SERVER_TROUBLE", "main"]

EXAMPLES = """\
examples:
  tritonrec recommend --user 42 --items items.tsv
  tritonrec recommend --user-key alice --session-key sku-17 --session-key sku-9 --diversity 0.2
  tritonrec recommend --session 1,2,3 --address host1:8001,host2:8001 --timeout 0.5 --json
  tritonrec recommend --user 42 --experiment experiment.toml
  tritonrec record --user 42 --item 7 --event click
  tritonrec record --user-key alice --item-key sku-9 --event purchase --event-id order-1138
  tritonrec forget --user 42 --yes
  tritonrec health --address localhost:8001

exit status: 0 done, 1 trouble with a server, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (sys.argv where None) and return its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if "pseudonym_key_file" in options:
        try:
            options.pseudonym_key = read_pseudonym_key(options.pseudonym_key_file)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    try:
        return int(options.run(options))
    except InvalidRequest as error:
        return _complain(error, BAD_USAGE)
    except RecommendError as error:
        return _complain(error, SERVER_TROUBLE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tritonrec",
        description="Recommendations from a Triton server that serves tritonrec's pipeline, and feedback.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--address",
        type=_addresses,
        default=("localhost:8001",),
        metavar="HOST:PORT[,…]",
        help="Triton's gRPC address; several take turns (default: localhost:8001)",
    )
    common.add_argument(
        "--timeout",
        type=_timeout,
        default=Timeout(),
        metavar="SECONDS",
        help="time for a call, retries included (default: 1.0)",
    )
    common.add_argument("--json", action="store_true", help="print JSON for programs")
    ensemble = argparse.ArgumentParser(add_help=False)
    ensemble.add_argument("--model", default="recommend", help="the ensemble's name (default: recommend)")
    pseudonyms = argparse.ArgumentParser(add_help=False)
    pseudonyms.add_argument(
        "--pseudonym-key-file",
        metavar="FILE",
        help="user ids are hashed under the key in FILE, 32 to 128 hexadecimal digits "
        f"(default: under that in the environment's {PSEUDONYM_KEY_VARIABLE}, if any)",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_recommend(commands, common, ensemble, pseudonyms)
    _add_record(commands, common, pseudonyms)
    _add_forget(commands, common, pseudonyms)
    canary = _add(
        commands,
        "health",
        "ask each address for an anonymous user's page; exit status 0 or 1",
        common,
        ensemble,
    )
    canary.set_defaults(run=health)
    return parser


def _add(commands: Any, name: str, words: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of the command `name`, which takes the options of `parents`, too."""
    return commands.add_parser(
        name,
        parents=parents,
        help=words,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_recommend(commands: Any, *parents: argparse.ArgumentParser) -> None:
    page = _add(commands, "recommend", "print one page of recommendations", *parents)
    _add_id(page, "user", "user id (default: anonymous)")
    page.add_argument(
        "--session",
        type=_integers,
        default=(),
        metavar="ID[,…]",
        help="integer ids of the session's items, oldest first",
    )
    page.add_argument(
        "--session-key",
        action="append",
        default=[],
        metavar="KEY",
        help="a string id of a session item; repeat it, oldest first",
    )
    page.add_argument(
        "--diversity",
        type=float,
        metavar="0…1",
        help=f"0 keeps the ranker's order (default: {DEFAULT_DIVERSITY})",
    )
    page.add_argument("--count", type=int, metavar="N", help="how many items (default: the whole page)")
    page.add_argument(
        "--items", type=_items, metavar="FILE", help="the release's item table (items.tsv), for titles"
    )
    page.add_argument(
        "--experiment",
        type=_experiment,
        metavar="FILE",
        help="ask the arm of the user in the experiment of FILE (TOML)",
    )
    page.set_defaults(run=recommend)


def _add_record(commands: Any, *parents: argparse.ArgumentParser) -> None:
    event = _add(commands, "record", "record what a user did; printed when it is on disk", *parents)
    _add_id(event, "user", "user id", required=True)
    _add_id(event, "item", "item id", required=True)
    event.add_argument("--event", required=True, metavar="EVENT", help="view, click, purchase or skip")
    event.add_argument(
        "--timestamp", type=int, metavar="SECONDS", help="when it happened, in unix time (default: now)"
    )
    event.add_argument(
        "--event-id",
        metavar="ID",
        help="a UUID or any other text; an event whose id is known changes nothing (default: at random)",
    )
    event.add_argument("--release", metavar="RELEASE", help="the release of the page that it happened on")
    event.add_argument(
        "--place", type=int, metavar="N", help="where on that page the item stood; the first place is 0"
    )
    event.add_argument(
        "--propensity",
        type=float,
        metavar="P",
        help="how likely the item was to stand there, as the page says (recommend --json)",
    )
    event.set_defaults(run=record)


def _add_forget(commands: Any, *parents: argparse.ArgumentParser) -> None:
    user = _add(commands, "forget", "remove a user's record and logged events", *parents)
    _add_id(user, "user", "user id", required=True)
    user.add_argument("--yes", action="store_true", help="really do it: it cannot be undone")
    user.set_defaults(run=forget)


def _add_id(parser: argparse.ArgumentParser, name: str, words: str, *, required: bool = False) -> None:
    either = parser.add_mutually_exclusive_group(required=required)
    either.add_argument(f"--{name}", type=int, metavar="ID", help=f"an integer {words}")
    either.add_argument(f"--{name}-key", metavar="KEY", help=f"a string {words.partition(' (')[0]}")


def _addresses(text: str) -> tuple[str, ...]:
    try:
        return parse_addresses(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _timeout(text: str) -> Timeout:
    try:
        return Timeout(total=float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text!r}; give seconds above 0") from error


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"found {text!r}; give integers separated by commas, or string ids with --session-key"
        ) from error


def _items(path: str) -> dict[int, Item]:
    try:
        return read_items(path)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _experiment(path: str) -> Experiment:
    try:
        return Experiment.load(path)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _complain(error: Exception, status: int) -> int:
    print(f"tritonrec: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
