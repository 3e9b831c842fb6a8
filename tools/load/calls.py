"""Light calls to Triton: what a page and its events cost the generator must stay small.

Requests are protobuf messages with fixed parts, sent as gRPC futures: nothing waits, and answers arrive on
gRPC's own thread. Compared on this client's load (2 cores, shared), a request cost 0.5 ms of CPU this way, as
much with `grpc.aio`, 0.8 ms with `tritonrec_client.aio`, and 0.8 to 1.2 ms with gRPC's gevent integration.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonrec_client import contract
from tritonrec_client.contract import ANONYMOUS, DEADLINE, DEFAULT_DIVERSITY, PADDING_ID, Event, Model, Status

from tools.load.generator import Done, FollowUp, Outcome
from tools.load.recording import RECORD_EVENT
from tools.load.visitors import Visitors

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_CONFIG = "/inference.GRPCInferenceService/ModelConfig"

REFUSED = "REFUSED"
"""The error of a request that a stage refused, because its answer would have come too late."""
DEGRADED = Status.STORE_UNAVAILABLE | Status.CORRUPT_RECORD
_RELEASES = tuple(contract.release_tensor(stage.name).name for stage in contract.STAGES)


class NoServerError(RuntimeError):
    """Nothing at the address answers as it should; the message says what was asked."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What visitors do with their pages: each place is seen, some items are opened, some of those bought.

    Raises ValueError on a share that is none.
    """

    clicks: float = 0.1
    """The chance that a page's visitor opens one of its items; earlier places are likelier, as 1 / place."""
    purchases: float = 0.2
    """The chance that who opened an item buys it."""
    think: float = 2.0
    """Seconds between a page and its click, and between that and a purchase, on average; exponential."""

    def __post_init__(self) -> None:
        for name in ("clicks", "purchases"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a share from 0 to 1")


class Calls:
    """Pages for visitors of one server, and with `feedback` the events that follow them.

    A page without items, or with several releases' parts, counts as an error. `timeout`, in seconds, bounds
    a request and travels as its deadline, as with the client, unless another `deadline` is given. `options`
    are gRPC's own for the connection. Raises NoServerError where nothing answers.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 1.0,
        deadline: float | None = None,
        feedback: Feedback | None = None,
        seed: int = 1,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._deadline = timeout if deadline is None else deadline
        self._feedback = feedback
        self._random = np.random.default_rng([seed, 2])
        self._visitors: Visitors | None = None
        self._channel = grpc.insecure_channel(address, options)
        self._infer: Callable[..., Any] = self._channel.unary_unary(
            _INFER,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        self._widths = self._read_widths()
        self.session = self._widths[contract.SESSION_ITEMS.name]
        self._page = _template(contract.RECOMMEND, self._widths, 1)
        self._diversity = struct.pack("<f", DEFAULT_DIVERSITY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def expect(self, visitors: Visitors) -> None:
        """The visitors whose numbers `send` gets."""
        self._visitors = visitors

    def send(self, number: int, done: Done) -> None:
        """Ask for the page of visitor `number`."""
        assert self._visitors is not None, "expect() comes first"
        user = int(self._visitors.users[number])
        raw = [struct.pack("<q", user), self._visitors.sessions[number].tobytes(), self._diversity]
        self._call(self._page, raw, lambda answer: self._page_outcome(user, answer), done)

    def _call(
        self, template: Any, raw: list[bytes], decode: Callable[[dict[str, bytes]], Outcome], done: Done
    ) -> None:
        request = service_pb2.ModelInferRequest()
        request.CopyFrom(template)
        request.parameters[DEADLINE].int64_param = int((time.time() + self._deadline) * 1000)
        request.raw_input_contents.extend(raw)

        def finish(call: Any) -> None:
            done(_outcome(call, decode))

        self._infer.future(request, timeout=self._timeout).add_done_callback(finish)  # type: ignore[attr-defined]

    def _page_outcome(self, user: int, answer: dict[str, bytes]) -> Outcome:
        items = np.frombuffer(answer[contract.ITEM_ID.name], np.int64)
        items = items[items != PADDING_ID]
        if not len(items):
            return Outcome("EMPTY_PAGE", "a page without any item")
        if len({answer[name] for name in _RELEASES}) > 1:
            return Outcome("MIXED_RELEASES", "the stages of one page belong to different releases")
        status = Status(int.from_bytes(answer[contract.STATUS.name], "little"))
        follow_ups: tuple[FollowUp, ...] = ()
        # Nothing is recorded for somebody who has no name.
        if self._feedback is not None and user != ANONYMOUS:
            follow_ups = self._reactions(self._feedback, user, items, answer[_RELEASES[0]])
        return Outcome(degraded=bool(status & DEGRADED), follow_ups=follow_ups)

    def _reactions(
        self, feedback: Feedback, user: int, items: NDArray[np.int64], release: bytes
    ) -> tuple[FollowUp, ...]:
        """All items were seen, in one inference; perhaps one was opened later, perhaps bought later still."""
        random = self._random
        follow_ups = [self._event(0.0, user, items, Event.VIEW, release)]
        if random.uniform() < feedback.clicks:
            weights = 1 / np.arange(1, len(items) + 1)
            opened = random.choice(items, 1, p=weights / weights.sum())
            after = random.exponential(feedback.think)
            follow_ups.append(self._event(after, user, opened, Event.CLICK, release))
            if random.uniform() < feedback.purchases:
                after += random.exponential(feedback.think)
                follow_ups.append(self._event(after, user, opened, Event.PURCHASE, release))
        return tuple(follow_ups)

    def _event(
        self, after: float, user: int, items: NDArray[np.int64], event: Event, release: bytes
    ) -> FollowUp:
        count = len(items)

        def send(done: Done) -> None:
            template = _template(contract.RECORD_EVENT, {}, count)
            raw = [
                np.full(count, user, np.int64).tobytes(),
                items.tobytes(),
                np.full(count, event, np.int32).tobytes(),
                np.full(count, int(time.time()), np.int64).tobytes(),
                secrets.token_bytes(16 * count),
                release * count,
                np.full(count, contract.NO_PROPENSITY, np.float32).tobytes(),
                np.full(count, contract.NO_PLACE, np.int32).tobytes(),
            ]
            self._call(template, raw, _acknowledged, done)

        return FollowUp(after, RECORD_EVENT, send)

    def _read_widths(self) -> dict[str, int]:
        ask = self._channel.unary_unary(
            _CONFIG,
            request_serializer=service_pb2.ModelConfigRequest.SerializeToString,
            response_deserializer=service_pb2.ModelConfigResponse.FromString,
        )
        names = [contract.RECOMMEND.name, *([RECORD_EVENT] if self._feedback is not None else [])]
        try:
            configs = [ask(service_pb2.ModelConfigRequest(name=name), timeout=5.0).config for name in names]
        except grpc.RpcError as error:
            self._channel.close()
            status = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
            words = error.details() if isinstance(error, grpc.Call) else str(error)
            raise NoServerError(
                f"{self.address}: asked for the models {', '.join(names)}, got {status}: {words}"
            ) from error
        return {tensor.name: tensor.dims[0] for tensor in (*configs[0].input, *configs[0].output)}


def _template(model: Model, widths: dict[str, int], batch: int) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model.name)
    for tensor in model.inputs:
        width = tensor.width if isinstance(tensor.width, int) else widths[tensor.name]
        request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=[batch, width])
    return request  # which names no outputs, as the client does: it gets them all


def _outcome(call: Any, decode: Callable[[dict[str, bytes]], Outcome]) -> Outcome:
    try:
        answer = call.result()
    except grpc.RpcError as error:
        words = call.details() or str(error)
        code = REFUSED if f"{DEADLINE}: found" in words else call.code().name
        return Outcome(code, words)
    except grpc.FutureCancelledError:
        return Outcome("CANCELLED", "cancelled here")
    names = (output.name for output in answer.outputs)
    return decode(dict(zip(names, answer.raw_output_contents, strict=True)))


def _acknowledged(answer: dict[str, bytes]) -> Outcome:
    codes = np.frombuffer(answer[contract.ACKNOWLEDGED.name], np.int32)
    return Outcome() if (codes > 0).all() else Outcome("NOT_ACKNOWLEDGED", f"got {codes.tolist()}")
