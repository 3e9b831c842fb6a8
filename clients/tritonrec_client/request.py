"""Requests: what a caller asks for, checked and stacked into the tensors that travel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tritonrec_client import contract
from tritonrec_client.errors import InvalidRequest
from tritonrec_client.ids import ALLOWED, pseudonym, wire_id

Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Request:
    """One page, please.

    The fields mean what the arguments of `Client.recommend` mean.
    """

    user: int | str | None = None
    session: Sequence[int | str] = ()
    diversity: float | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a served model takes at most: read from its configuration, since it belongs to a build."""

    widths: Mapping[str, int]
    """How wide each tensor is, by its name."""
    max_batch: int
    """How many requests one inference may hold."""

    @property
    def session(self) -> int:
        """S: how many session items travel."""
        return self.widths[contract.SESSION_ITEMS.name]

    @property
    def results(self) -> int:
        """N: how many items a page holds."""
        return self.widths[contract.ITEM_ID.name]


@dataclass(frozen=True, slots=True)
class Checked:
    """A request whose values are allowed, with its defaults filled in and its ids translated."""

    user: int
    session: tuple[int, ...]
    diversity: float
    count: int | None


def check(request: Request, prefix: str = "", pseudonym_key: bytes | None = None) -> Checked:
    """`request` with ids translated and defaults filled in.

    Raises InvalidRequest where a value is not allowed; `prefix` is put before the field's name. With a
    `pseudonym_key` the user's id becomes a pseudonym.
    """
    return Checked(
        check_user(request.user, f"{prefix}user", pseudonym_key),
        _session(request.session, f"{prefix}session"),
        _diversity(request.diversity, f"{prefix}diversity"),
        request.count,
    )


def check_all(requests: Sequence[Request], pseudonym_key: bytes | None = None) -> list[Checked]:
    """Each request checked; an error names the request by its position, as in ``requests[3].user``."""
    return [check(request, f"requests[{place}].", pseudonym_key) for place, request in enumerate(requests)]


def check_user(user: int | str | None, field: str, pseudonym_key: bytes | None = None) -> int:
    """The id that travels for `user`; None is anonymous. Raises InvalidRequest where it is no id."""
    if user is None:
        return contract.ANONYMOUS
    number = check_id(user, field)
    return number if pseudonym_key is None else pseudonym(user, pseudonym_key)


def check_id(value: int | str, field: str) -> int:
    """The wire id of `value`. Raises InvalidRequest where it is no id."""
    try:
        return wire_id(value)
    except ValueError:
        raise InvalidRequest(field, repr(value), ALLOWED) from None


def stack(requests: Sequence[Checked], shape: ModelShape) -> Arrays:
    """The tensors of one inference for `requests`.

    Returns user_id int64 ``[B, 1]``, session_items int64 ``[B, S]`` (the last S items, newest last, with
    padding in front) and diversity float32 ``[B, 1]``. Raises InvalidRequest where `shape` is exceeded.
    """
    if len(requests) > shape.max_batch:
        raise InvalidRequest(
            "requests", f"{len(requests)} of them", f"1 to {shape.max_batch} in one call to this server"
        )
    session = np.full((len(requests), shape.session), contract.PADDING_ID, np.int64)
    for row, request in enumerate(requests):
        if request.count is not None:
            _check_count(request.count, shape.results)
        last = request.session[-shape.session :]
        if last:
            session[row, -len(last) :] = last
    users = np.array([[request.user] for request in requests], np.int64)
    diversity = np.array([[request.diversity] for request in requests], np.float32)
    return {
        contract.USER_ID.name: users,
        contract.SESSION_ITEMS.name: session,
        contract.DIVERSITY.name: diversity,
    }


def _session(session: Sequence[int | str], field: str) -> tuple[int, ...]:
    """The session's wire ids without padding, which callers may have put in themselves."""
    try:
        if isinstance(session, str | bytes):
            raise TypeError
        values = list(session)
    except TypeError:
        raise InvalidRequest(field, repr(session), "a sequence of item ids, oldest first") from None
    ids = (check_id(value, f"{field}[{place}]") for place, value in enumerate(values))
    return tuple(number for number in ids if number != contract.PADDING_ID)


def _diversity(value: float | None, field: str) -> float:
    if value is None:
        return contract.DEFAULT_DIVERSITY
    allowed = "a number from 0 (the ranker's order) to 1"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise InvalidRequest(field, repr(value), allowed)
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise InvalidRequest(field, f"{number!r}", allowed)
    return number


def _check_count(count: int, results: int) -> None:
    whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not (whole and 1 <= count <= results):
        raise InvalidRequest("count", repr(count), f"an integer from 1 to {results}, a page of this server")
