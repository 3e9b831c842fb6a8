"""Ask this pod's server for a page, as nobody in particular: what Kubernetes' probes run.

It imports gRPC and Triton's messages and nothing else, because it runs every few seconds: 0.15 s of processor
time, where all of tritonclient takes 0.23.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import struct
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from tritonrec_client.contract import (
    ANONYMOUS,
    DEADLINE,
    ITEM_ID,
    PADDING_ID,
    RECOMMEND,
    SESSION_ITEMS,
    USER_ID,
)

OK, NO_PAGE, BAD_USAGE = 0, 1, 2

EXAMPLES = """\
examples, in a pod:
  python tools/probe.py --ready --timeout=4 --run=/run/tritonrec  # do all stages live, and does a page come?
  python tools/probe.py --live --timeout=10                       # does a page come, however late?

The pod's settings are those of tools/serve_pod.py: TRITONREC_GRPC_PORT, TRITONREC_TLS and others.

exit status: 0 a page came, 1 none came, 2 bad usage
"""
FORMATS = {"INT64": "q", "INT32": "i", "FP32": "f"}


class NoPage(Exception):
    """There is no page; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and print why there is no page; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.ready and options.run:
            require_stages(options.run)
        ask(os.environ, timeout=options.timeout, may_shed=options.ready)
    except (NoPage, OSError) as reason:
        print(f"probe.py: {reason}", file=sys.stderr)
        return NO_PAGE
    return OK


def ask(environment: Mapping[str, str], *, timeout: float, may_shed: bool) -> None:
    """Ask for a page within `timeout` seconds; with `may_shed` stages refuse where it would come too late.

    Raises NoPage unless a page with an item comes, made by one release.
    """
    messages = _messages()
    end = time.monotonic() + timeout
    with _channel(environment) as channel:

        def call(method: str, request: Any, answer: Any) -> Any:
            caller = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            # A server that is not there yet is a reason to say so at once.
            return caller(request, timeout=max(0.01, end - time.monotonic()))

        try:
            config = call(
                "ModelConfig", messages.ModelConfigRequest(name=RECOMMEND.name), messages.ModelConfigResponse
            ).config
            widths = {tensor.name: tensor.dims[0] for tensor in config.input}
            request = messages.ModelInferRequest(model_name=RECOMMEND.name)
            for tensor in RECOMMEND.inputs:
                width = widths[tensor.name]
                request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=[1, width])
                value = {USER_ID.name: ANONYMOUS, SESSION_ITEMS.name: PADDING_ID}.get(tensor.name, 0)
                request.raw_input_contents.append(
                    struct.pack(f"<{width}{FORMATS[tensor.dtype]}", *[value] * width)
                )
            if may_shed:
                left = end - time.monotonic()
                request.parameters[DEADLINE].int64_param = int((time.time() + left) * 1000)
            answer = call("ModelInfer", request, messages.ModelInferResponse)
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
            words = error.details() if isinstance(error, grpc.Call) else str(error)
            raise NoPage(f"{code}: {words}") from None
        except KeyError as error:
            raise NoPage(f"{RECOMMEND.name} has no input {error}") from None
    _require_page(
        dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    )


def require_stages(run: Path, processes: Path = Path("/proc")) -> None:
    """Raise NoPage where a stage of the server that is noted in `run` has died.

    A page may come all the same, from the stage's other process, while every second one fails. A server is
    noted when tools/serve_pod.py has found it ready.
    """
    try:
        server = (run / "triton.pid").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise NoPage("the server is still starting, or ends") from None
    dead = 0
    for path in processes.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            # pid (program) state parent …; the program's name may hold spaces
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            dead += state == "Z" and parent == server
    if dead:
        raise NoPage(f"{dead} of the stages' processes died")


def _require_page(answer: Mapping[str, bytes]) -> None:
    padding = struct.pack("<q", PADDING_ID)
    items = answer.get(ITEM_ID.name, b"")
    if items.count(padding) * len(padding) >= len(items):
        raise NoPage("the page has no item")
    if len({value for name, value in answer.items() if name.endswith("_release")}) > 1:
        raise NoPage("several releases made the page")


def _channel(environment: Mapping[str, str]) -> grpc.Channel:
    """A connection to the pod's own server."""
    address = f"127.0.0.1:{environment.get('TRITONREC_GRPC_PORT') or 8001}"
    tls = environment.get("TRITONREC_TLS") or "off"
    if tls == "off":
        return grpc.insecure_channel(address)
    folder = Path(environment.get("TRITONREC_TLS_DIR") or "/etc/tritonrec/tls")
    try:
        ca = (folder / "ca.crt").read_bytes()
        own = [(folder / name).read_bytes() for name in ("tls.key", "tls.crt")] if tls == "mutual" else []
    except OSError as error:
        raise NoPage(str(error)) from None
    name = environment.get("TRITONREC_TLS_NAME") or "tritonrec"
    credentials = grpc.ssl_channel_credentials(ca, *own)
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name)])


def _messages() -> Any:
    """tritonclient's ``service_pb2``, without the package around it, which is slow to import."""
    if "tritonclient.grpc" not in sys.modules:
        found = importlib.util.find_spec("tritonclient")
        if found is None or not found.submodule_search_locations:
            raise NoPage("tritonclient is not installed; pip install 'tritonclient[grpc]'")
        package = types.ModuleType("tritonclient.grpc")
        package.__path__ = [str(Path(found.submodule_search_locations[0]) / "grpc")]
        sys.modules["tritonclient.grpc"] = package
    from tritonclient.grpc import service_pb2

    return service_pb2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/probe.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ready", action="store_true", help="a page in time, as users want it")
    which.add_argument("--live", action="store_true", help="a page at all: nobody refuses it for being late")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="that of tools/serve_pod.py: --ready looks for dead stages, too",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=4.0, metavar="SECONDS", help="for all of it (default: 4)"
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
