"""The client for asyncio: calls are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tritonrec_client import contract, wire
from tritonrec_client.addresses import parse_addresses
from tritonrec_client.contract import Acknowledgement, Event
from tritonrec_client.course import Answer, Course, Courses, Pause, ReadShape, Result, Step
from tritonrec_client.exchange import Exchange
from tritonrec_client.experiment import Experiment
from tritonrec_client.feedback import Feedback, check_event, check_events, check_forgotten, views_of
from tritonrec_client.ids import check_pseudonym_key
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


class AsyncClient:
    """`Client` for asyncio: the same arguments, the same methods, awaited.

    It belongs to the event loop in which it is first used. Any number of tasks may share it; a task that
    is cancelled cancels its call.
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
        experiment: Experiment | None = None,
        pseudonym_key: bytes | None = None,
    ) -> None:
        self._key = None if pseudonym_key is None else check_pseudonym_key(pseudonym_key)
        courses = Courses(parse_addresses(addresses), Timeout.of(timeout), retry)
        self._exchange = Exchange(courses, model, experiment)
        self._headers = headers
        self._options = wire.connection_options(keepalive, tls)
        # Made when first needed: gRPC binds a connection to the event loop that runs at that moment.
        self._connections: dict[str, InferenceServerClient] = {}
        self._closed = False

    async def recommend(
        self,
        user: int | str | None = None,
        session: Sequence[int | str] = (),
        *,
        diversity: float | None = None,
        count: int | None = None,
        timeout: Timeout | float | None = None,
    ) -> Page:
        """A page for one user: see `Client.recommend`."""
        checked = check(Request(user, session, diversity, count), pseudonym_key=self._key)
        return (await self._carry_out(self._exchange.recommend([checked], timeout)))[0]

    async def recommend_many(
        self, requests: Sequence[Request], *, timeout: Timeout | float | None = None
    ) -> list[Page]:
        """A page for each of `requests` by one batched inference: see `Client.recommend_many`."""
        return await self._carry_out(self._exchange.recommend(check_all(requests, self._key), timeout))

    async def record_event(
        self,
        user: int | str,
        item: int | str,
        event: Event | str,
        *,
        timestamp: float | None = None,
        event_id: bytes | UUID | str | None = None,
        page: Page | None = None,
        release: str | None = None,
        propensity: float | None = None,
        place: int | None = None,
        timeout: Timeout | float | None = None,
    ) -> Acknowledgement:
        """Tell what a user did: see `Client.record_event`."""
        feedback = Feedback(user, item, event, timestamp, event_id, page, release, propensity, place)
        checked = check_event(feedback, pseudonym_key=self._key)
        return (await self._carry_out(self._exchange.record([checked], timeout)))[0]

    async def record_events(
        self, events: Sequence[Feedback], *, timeout: Timeout | float | None = None
    ) -> list[Acknowledgement]:
        """Record all `events` by one batched inference: see `Client.record_events`."""
        return await self._carry_out(self._exchange.record(check_events(events, self._key), timeout))

    async def record_page(
        self,
        user: int | str,
        page: Page,
        *,
        timestamp: float | None = None,
        page_id: str | None = None,
        timeout: Timeout | float | None = None,
    ) -> list[Acknowledgement]:
        """Tell that `user` was shown all of `page`: see `Client.record_page`."""
        return await self.record_events(views_of(user, page, timestamp, page_id), timeout=timeout)

    async def forget_user(self, user: int | str, *, timeout: Timeout | float | None = None) -> bool:
        """Remove the user's record and logged events: see `Client.forget_user`."""
        return await self._carry_out(self._exchange.forget(check_forgotten(user, self._key), timeout))

    async def connect(self, *, timeout: Timeout | float | None = None) -> None:
        """Connect and read each server's model shape now: see `Client.connect`."""
        await self._carry_out(self._exchange.connect(timeout))

    async def close(self) -> None:
        """Close the connections; later calls raise RuntimeError."""
        self._closed = True
        for connection in self._connections.values():
            await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _carry_out(self, course: Course[Result]) -> Result:
        if self._closed:
            raise RuntimeError("this client is closed; make another")
        answer: Answer = None
        while True:
            try:
                step = course.send(answer)
            except StopIteration as end:
                return end.value
            answer = await self._perform(step)

    async def _perform(self, step: Step) -> Answer:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        connection = self._connection(step.address)
        model = step.model
        try:
            if isinstance(step, ReadShape):
                config = await connection.get_model_config(
                    model.name, headers=self._headers, client_timeout=step.timeout
                )
                return wire.model_shape(config, model)
            arguments = wire.infer_arguments(model, step.inputs, step.timeout, self._headers)
            return wire.arrays(await connection.infer(**arguments))
        except InferenceServerException as error:
            return wire.failure(error)

    def _connection(self, address: str) -> InferenceServerClient:
        if address not in self._connections:
            self._connections[address] = InferenceServerClient(address, **self._options)
        return self._connections[address]
