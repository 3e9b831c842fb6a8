"""The command line: `tritonrec recommend` and `tritonrec health`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from tritonrec_client.addresses import parse_addresses
from tritonrec_client.contract import DEFAULT_DIVERSITY
from tritonrec_client.errors import InvalidRequest, RecommendError
from tritonrec_client.items import Item, read_items
from tritonrec_client.options import Retry, Timeout
from tritonrec_client.request import Request, check

OK, SERVER_TROUBLE, BAD_USAGE = 0, 1, 2

EXAMPLES = """\
examples:
  tritonrec recommend --user 42 --items items.tsv
  tritonrec recommend --user-key alice --session-key sku-17 --session-key sku-9 --diversity 0.2
  tritonrec recommend --session 1,2,3 --address host1:8001,host2:8001 --timeout 0.5 --json
  tritonrec health --address localhost:8001

exit status: 0 done, 1 trouble with a server, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (sys.argv where None) and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except InvalidRequest as error:
        return _complain(error, BAD_USAGE)
    except RecommendError as error:
        return _complain(error, SERVER_TROUBLE)


def recommend(options: argparse.Namespace) -> int:
    """Ask for one page and print it."""
    from tritonrec_client.client import Client
    from tritonrec_client.table import format_page, page_to_json

    user = options.user if options.user_key is None else options.user_key
    session = [*options.session, *options.session_key]
    check(Request(user, session, options.diversity))  # before anything is sent
    with Client(options.address, timeout=options.timeout, model=options.model) as client:
        client.connect()  # so that the latency is a call's, not that of connecting
        started = time.perf_counter()
        page = client.recommend(user, session, diversity=options.diversity, count=options.count)
        latency = time.perf_counter() - started
    if options.json:
        print(json.dumps(page_to_json(page, options.items, latency=latency), ensure_ascii=False))
    else:
        print(format_page(page, options.items, latency=latency))
    return OK


def health(options: argparse.Namespace) -> int:
    """Ask each address for an anonymous user's page; 0 where each gives one, made by one release.

    A recommendation is asked for because neither of Triton's readiness endpoints looks at every stage.
    """
    from tritonrec_client.client import Client
    from tritonrec_client.table import describe_release, describe_status

    results = []
    for address in options.address:
        result = {"address": address, "healthy": False, "words": "", "release": None, "latency_ms": None}
        results.append(result)
        retry = Retry(attempts=1)
        with Client(address, timeout=options.timeout, retry=retry, model=options.model) as client:
            try:
                client.connect()
                started = time.perf_counter()
                page = client.recommend()
            except RecommendError as error:
                result["words"] = str(error)
                continue
            result["latency_ms"] = round((time.perf_counter() - started) * 1000, 3)
        result["healthy"] = bool(page.items) and page.is_consistent
        result["release"] = describe_release(page)
        result["words"] = f"{len(page.items)} items, {describe_status(page.status)}"
    if options.json:
        print(json.dumps(results))
    else:
        for result in results:
            print(_health_line(result))
    return OK if all(result["healthy"] for result in results) else SERVER_TROUBLE


def _health_line(result: dict[str, object]) -> str:
    state = "ok    " if result["healthy"] else "FAILED"
    line = f"{state}  {result['address']}  {result['words']}"
    if result["release"] is not None:
        line += f" · release: {result['release']} · {result['latency_ms']:.1f} ms"
    return line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tritonrec",
        description="Recommendations from a Triton server that serves tritonrec's pipeline.",
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
    common.add_argument("--model", default="recommend", help="the ensemble's name (default: recommend)")
    common.add_argument("--json", action="store_true", help="print JSON for programs")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    page = commands.add_parser(
        "recommend",
        parents=[common],
        help="print one page of recommendations",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    user = page.add_mutually_exclusive_group()
    user.add_argument("--user", type=int, metavar="ID", help="an integer user id (default: anonymous)")
    user.add_argument("--user-key", metavar="KEY", help="a string user id")
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
    page.set_defaults(run=recommend)

    canary = commands.add_parser(
        "health",
        parents=[common],
        help="ask each address for an anonymous user's page; exit status 0 or 1",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    canary.set_defaults(run=health)
    return parser


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


def _complain(error: Exception, status: int) -> int:
    print(f"tritonrec: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
