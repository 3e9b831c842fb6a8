"""Who comes: users by Zipf's law, some that the store does not know, some without a name."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tritonrec_client.contract import ANONYMOUS, MAX_ID, PADDING_ID
from tritonrec_client.ids import wire_id

UNKNOWN_FROM = 2**62
"""Unknown users get ids from here on, so that what a load test wrote can be told from real users."""

MOST_SESSION_ITEMS = 5


@dataclass(frozen=True, slots=True)
class Visitors:
    """One visitor per arrival: `users` int64 ``[N]``, `sessions` int64 ``[N, S]``, padded."""

    users: NDArray[np.int64]
    sessions: NDArray[np.int64]


@dataclass(frozen=True)
class Audience:
    """What visitors are drawn from.

    The user of rank r comes with a probability proportional to r to the power of -`zipf`; ranks are dealt out
    at random. `unknown` and `anonymous` are shares of the visits. Sessions hold up to 5 of `items`, by the
    same law. Raises ValueError where that cannot be meant.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    zipf: float = 1.0
    unknown: float = 0.05
    anonymous: float = 0.1

    def __post_init__(self) -> None:
        if not len(self.users):
            raise ValueError("there are no users to draw from")
        if not (np.isfinite(self.zipf) and self.zipf >= 0):
            raise ValueError(f"zipf is {self.zipf}; it must be a number of at least 0, where 0 is uniform")
        for name in ("unknown", "anonymous"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a share from 0 to 1")
        if self.unknown + self.anonymous > 1:
            raise ValueError(f"unknown + anonymous is {self.unknown + self.anonymous}; at most 1 is possible")

    def draw(self, count: int, session: int, seed: int) -> Visitors:
        """`count` visitors whose sessions are `session` wide; the same for the same seed."""
        random = np.random.default_rng([seed, 1])
        users = _zipf(self.users, count, self.zipf, random)
        kind = random.uniform(size=count)
        strangers = kind < self.unknown
        users[strangers] = UNKNOWN_FROM + random.integers(0, 2**40, int(strangers.sum()))
        users[kind >= 1 - self.anonymous] = ANONYMOUS
        sessions = np.full((count, session), PADDING_ID, np.int64)
        if len(self.items):
            most = min(session, MOST_SESSION_ITEMS)
            items = _zipf(self.items, count * most, self.zipf, random).reshape(count, most)
            lengths = random.integers(0, most + 1, (count, 1))
            sessions[:, :most] = np.where(np.arange(most) < lengths, items, PADDING_ID)
        return Visitors(users, sessions)


def _zipf(
    ids: NDArray[np.int64], count: int, exponent: float, random: np.random.Generator
) -> NDArray[np.int64]:
    weights = np.arange(1, len(ids) + 1, dtype=np.float64) ** -exponent
    chosen: NDArray[np.int64] = random.permutation(ids)[
        np.searchsorted(np.cumsum(weights) / weights.sum(), random.uniform(size=count)).clip(0, len(ids) - 1)
    ]
    return chosen


def read_items(path: Path) -> NDArray[np.int64]:
    """The wire ids of a release's items, from its ``items.tsv``. Raises OSError."""
    with path.open(encoding="utf-8", newline="") as file:
        return np.array([int(row["item_id"]) for row in csv.DictReader(file, delimiter="\t")], np.int64)


def read_users(text: str) -> NDArray[np.int64]:
    """The wire ids of users that `text` names: a range such as ``1-943``, or a file with one id per line.

    Lines that are no numbers are keys, which are hashed as clients do. Raises ValueError on an id that no
    user can have, and OSError where the file cannot be read.
    """
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal():
        if not int(first) <= int(last) <= MAX_ID:
            raise ValueError(f"users: found {text}; a range is FIRST-LAST")
        return np.arange(int(first), int(last) + 1, dtype=np.int64)
    lines = Path(text).read_text(encoding="utf-8").split("\n")
    return _ids([line.strip() for line in lines if line.strip()], text)


def _ids(values: Sequence[str], where: str) -> NDArray[np.int64]:
    ids = [int(value) if value.isdecimal() else wire_id(value) for value in values]
    if too_large := [each for each in ids if each > MAX_ID]:
        raise ValueError(f"{where}: found the user {too_large[0]}; a user's id is 0 to 2**63 - 1")
    return np.array(ids, np.int64)


def stored_users(url: str, limit: int = 100_000) -> NDArray[np.int64]:
    """The wire ids of up to `limit` users that the feature store `url` holds.

    Raises StoreUnavailable, and ValueError on a URL that cannot be meant.
    """
    if url.startswith("lmdb://"):
        from python_backend.stores.lmdb_store import LmdbFolder

        # The log's keys begin with a byte above 127, users' keys are 8 bytes and do not.
        def look(transaction: object) -> list[int]:
            found: list[int] = []
            for key in transaction.cursor().iternext(values=False):  # type: ignore[attr-defined]
                if len(found) == limit or key[0] > 127:
                    break
                found.append(int.from_bytes(key, "big"))
            return found

        return np.array(LmdbFolder.from_url(url).read(look), np.int64)
    import redis

    from python_backend.stores.contract import StoreUnavailable
    from python_backend.stores.redis_store import RedisServer

    server = RedisServer.from_url(url, 5.0)
    ids = []
    try:
        for key in server.client.scan_iter(match=f"{server.prefix}*", count=1000):
            tail = key.decode().removeprefix(server.prefix)
            if tail.isdecimal():
                ids.append(int(tail))
            if len(ids) == limit:
                break
    except redis.RedisError as error:
        raise StoreUnavailable(f"{server.location}: {error}") from error
    finally:
        server.client.close()
    return np.array(sorted(ids), np.int64)
