"""The client for threads: calls block until the answer is there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

from tritonclient.grpc import InferenceServerClient
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


class Client:
    """Recommendations and feedback over gRPC.

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
    experiment : asks the ensemble of each user's arm instead; anonymous users get pages of `model`, as
        does everybody where a server does not serve the arm, since an experiment may end at any time.
    pseudonym_key : 16 to 64 bytes under which user ids are hashed before they leave this process, by every
        call alike. The server must know users by the same pseudonyms (see `pseudonym`).

    Raises ValueError where an address is not ``host:port``, and for a key of another length.
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
        options = wire.connection_options(keepalive, tls)
        self._connections = {
            address: InferenceServerClient(address, **options) for address in self._exchange.addresses
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
        checked = check(Request(user, session, diversity, count), pseudonym_key=self._key)
        return self._carry_out(self._exchange.recommend([checked], timeout))[0]

    def recommend_many(
        self, requests: Sequence[Request], *, timeout: Timeout | float | None = None
    ) -> list[Page]:
        """A page for each of `requests`, in their order, by one batched inference (with an experiment by
        one per arm, all within one deadline).

        Raises as `recommend` does, and InvalidRequest for more requests than the server batches.
        """
        return self._carry_out(self._exchange.recommend(check_all(requests, self._key), timeout))

    def record_event(
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
        """Tell what a user did; the user's next page knows it.

        The answer means that the event is on disk: ``RECORDED`` now, or ``KNOWN`` since an event with this
        id was recorded before. No answer means that it may be or may not be. Attempts within a call share
        the event's id, so they are one event; so are calls that are given the same `event_id`.

        Parameters
        ----------
        user : the user's id; an anonymous user has no record to write to.
        item : the item's id: a page's ``item_id``, or your own.
        event : an `Event` or its name, as in ``"click"``.
        timestamp : when it happened, in unix seconds; None is now.
        event_id : 16 bytes, a UUID (as such or as text), or any other text, which is hashed to 16 bytes;
            None draws one at random for this call.
        page : the page that the event happened on; its release is logged with the event, and so are the
            item's place and propensity on it.
        release : the page's release where the page itself is not at hand. Not both.
        propensity : the item's propensity, above 0 and up to 1, where the page itself is not at hand; None
            is what `page` says, or unknown, which is logged as `contract.NO_PROPENSITY`.
        place : where the item stood on the page, from 0; None is what `page` says, or unknown, which is
            logged as `contract.NO_PLACE`.
        timeout : the call's time limits, or a total in seconds; None is the client's.

        Raises as `recommend` does, and MixedReleases for a page that several releases made.
        """
        feedback = Feedback(user, item, event, timestamp, event_id, page, release, propensity, place)
        checked = check_event(feedback, pseudonym_key=self._key)
        return self._carry_out(self._exchange.record([checked], timeout))[0]

    def record_events(
        self, events: Sequence[Feedback], *, timeout: Timeout | float | None = None
    ) -> list[Acknowledgement]:
        """Record all `events`, in their order, by one batched inference: see `record_event`.

        Raises as `record_event` does, and InvalidRequest for more events than the server batches; then none
        was sent.
        """
        return self._carry_out(self._exchange.record(check_events(events, self._key), timeout))

    def record_page(
        self,
        user: int | str,
        page: Page,
        *,
        timestamp: float | None = None,
        page_id: str | None = None,
        timeout: Timeout | float | None = None,
    ) -> list[Acknowledgement]:
        """Tell that `user` was shown all of `page`: a view of each of its items, by one batched inference.

        Each view is logged with its place and its propensity, as estimates of other releases need it. With a
        `page_id`, any text that is this page's alone, the call may be repeated without counting twice.

        Raises as `record_events` does.
        """
        return self.record_events(views_of(user, page, timestamp, page_id), timeout=timeout)

    def forget_user(self, user: int | str, *, timeout: Timeout | float | None = None) -> bool:
        """Remove the user's record and logged events; whether there was something to remove.

        A second attempt after an answer that was lost finds nothing any more. Raises as `recommend` does.
        """
        return self._carry_out(self._exchange.forget(check_forgotten(user, self._key), timeout))

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
        model = step.model
        try:
            if isinstance(step, ReadShape):
                config = connection.get_model_config(
                    model.name, headers=self._headers, client_timeout=step.timeout
                )
                return wire.model_shape(config, model)
            result = connection.infer(**wire.infer_arguments(model, step.inputs, step.timeout, self._headers))
            return wire.arrays(result)
        except InferenceServerException as error:
            return wire.failure(error)
