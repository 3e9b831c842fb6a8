"""The client for threads: calls block until the page is there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tritonrec_client import contract, wire
from tritonrec_client.addresses import parse_addresses
from tritonrec_client.exchange import Answer, Course, Exchange, Pause, ReadShape, Result, Step
from tritonrec_client.options import (
    DEFAULT_KEEPALIVE,
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT,
    Keepalive,
    Retry,
    Timeout,
    Tls,
)
from tritonrec_client.page import Page
from tritonrec_client.request import Request, check, check_all


class Client:
    """Recommendations over gRPC.

    One client is meant to serve a whole process: it is safe to share between threads (gRPC's channels
    are, and what is kept here is locked or replaced as a whole), and it keeps one connection per address.
    Make it after forking. Close it, or use it as a context manager.

    Parameters
    ----------
    addresses : one or several ``host:port`` of Triton's gRPC service, as a list or separated by commas;
        calls take them in turn.
    timeout : the time limits of a call that brings none, or a total in seconds.
    retry, keepalive, tls : see these classes. tls=None connects without encryption.
    headers : gRPC metadata sent with every call, with lower-case names.
    model : the ensemble's name.

    Raises ValueError where an address is not ``host:port``.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = "localhost:8001",
        *,
        timeout: Timeout | float = DEFAULT_TIMEOUT,
        retry: Retry = DEFAULT_RETRY,
        keepalive: Keepalive = DEFAULT_KEEPALIVE,
        tls: Tls | None = None,
        headers: Mapping[str, str] | None = None,
        model: str = contract.RECOMMEND.name,
    ) -> None:
        self._exchange = Exchange(model, parse_addresses(addresses), Timeout.of(timeout), retry)
        self._headers = headers
        options = wire.connection_options(keepalive, tls)
        self._connections = {
            address: InferenceServerClient(address, **options) for address in self._exchange.addresses.all
        }
        self._closed = False

    def recommend(
        self,
        user: int | str | None = None,
        session: Sequence[int | str] = (),
        *,
        diversity: float | None = None,
        count: int | None = None,
        timeout: Timeout | float | None = None,
    ) -> Page:
        """A page for one user.

        Parameters
        ----------
        user : the user's id, of the type the data had (an integer or a string); None is anonymous.
        session : items of the running session, oldest first; as many of the last as the build takes are
            sent. -1 counts as padding and is left out.
        diversity : 0, the ranker's order, to 1; None is the contract's default.
        count : how many items at most, up to the page's size; None is the whole page.
        timeout : the call's time limits, or a total in seconds; None is the client's.

        Raises
        ------
        InvalidRequest : a value is not allowed; most are found before anything is sent.
        DeadlineExceeded : no answer in time.
        Unavailable : no server took the request.
        ServerError : the server answered with an error.
        """
        checked = check(Request(user, session, diversity, count))
        return self._carry_out(self._exchange.recommend([checked], timeout))[0]

    def recommend_many(
        self, requests: Sequence[Request], *, timeout: Timeout | float | None = None
    ) -> list[Page]:
        """A page for each of `requests`, in their order, by one batched inference.

        Raises as `recommend` does, and InvalidRequest for more requests than the server batches.
        """
        return self._carry_out(self._exchange.recommend(check_all(requests), timeout))

    def connect(self, *, timeout: Timeout | float | None = None) -> None:
        """Connect and read each server's model shape now, so that the first calls need not.

        Raises as `recommend` does where no server answers; one that answers is enough.
        """
        self._carry_out(self._exchange.connect(timeout))

    def close(self) -> None:
        """Close the connections; later calls raise RuntimeError."""
        self._closed = True
        for connection in self._connections.values():
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry_out(self, course: Course[Result]) -> Result:
        if self._closed:
            raise RuntimeError("this client is closed; make another")
        answer: Answer = None
        while True:
            try:
                step = course.send(answer)
            except StopIteration as end:
                return end.value
            answer = self._perform(step)

    def _perform(self, step: Step) -> Answer:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        connection = self._connections[step.address]
        model = self._exchange.model
        try:
            if isinstance(step, ReadShape):
                config = connection.get_model_config(
                    model, headers=self._headers, client_timeout=step.timeout
                )
                return wire.model_shape(config)
            result = connection.infer(**wire.infer_arguments(model, step.inputs, step.timeout, self._headers))
            return wire.arrays(result)
        except InferenceServerException as error:
            return wire.failure(error)
