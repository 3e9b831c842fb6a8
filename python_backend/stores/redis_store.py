"""The store of a cluster: Redis, or anything that speaks its protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from python_backend.stores.contract import FeatureStore, Found, StoreUnavailable, checked
from python_backend.stores.records import UserRecord, decode_or_error, encode

PASSWORD = "TRITONREC_STORE_PASSWORD"
"""The environment variable with the password of a URL that has none: URLs stand in the configurations of
models, which Triton shows to whoever asks."""

PREFIX = "tritonrec:user:"
"""What comes before a user's id in a key."""

COMMANDS_AT_ONCE = 256
"""How many writes travel in one round trip: enough to hide the network, few enough for the timeout."""

TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)

Element = TypeVar("Element")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server, or one of its databases, as a URL names it; what goes wrong with it is StoreUnavailable.

    Connections are pooled; one that the server has dropped is replaced before it is used.
    """

    client: redis.Redis
    location: str
    """Where it is, for messages; holds no password."""
    prefix: str
    """What comes before a user's id in a key."""

    @classmethod
    def from_url(
        cls, url: str, timeout: float, *, on_connect: Callable[[Any], None] | None = None
    ) -> RedisServer:
        """The server of ``redis://[[user]:password@]host[:port][/database]``; ``rediss://`` for TLS.

        `timeout`, in seconds, bounds connecting and every wait; nothing is tried twice. `on_connect` is
        called on every new connection, and may raise redis.RedisError to refuse it.

        Options: ``prefix``, and for TLS redis-py's own of `TLS_OPTIONS`. Raises ValueError on another URL,
        with a message that holds nothing of a password.
        """
        try:
            parts = urlsplit(url)
            location = _location(parts)
        except ValueError:
            # From None: the original message may quote a piece of a password that was not percent-encoded.
            raise ValueError(_NOT_A_URL) from None
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        prefix = options.pop("prefix", PREFIX)
        allowed = TLS_OPTIONS if parts.scheme == "rediss" else ()
        unknown = sorted(name for name in options if name not in allowed)
        if unknown:
            raise ValueError(
                f"store URL: unknown option {unknown[0]!r}; allowed are {', '.join(('prefix', *allowed))}"
            )

        def connected(connection: Any) -> None:
            connection.on_connect()  # redis-py's own part: authentication, the database
            assert on_connect is not None
            on_connect(connection)

        client = redis.Redis.from_url(
            parts._replace(query=urlencode(options)).geturl(),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            password=os.environ.get(PASSWORD) or None,  # the URL's own comes first
            retry=Retry(NoBackoff(), 0),  # a second try would cost a second timeout
            protocol=2,
            redis_connect_func=connected if on_connect else None,
        )
        return cls(client, location, prefix)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Raises StoreUnavailable for whatever goes wrong within."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable(f"{self.location}: {error}") from error

    def user_key(self, user_id: int) -> str:
        """The key of a user's record. Raises ValueError where no stored user can have this id."""
        return f"{self.prefix}{checked(user_id)}"


class RedisStore(FeatureStore):
    """Users' records under the keys ``<prefix><user id>``."""

    def __init__(self, server: RedisServer) -> None:
        self.location = server.location
        self._server = server
        self._client = server.client

    @classmethod
    def from_url(cls, url: str, timeout: float) -> RedisStore:
        """The store of a URL; see `RedisServer.from_url`."""
        return cls(RedisServer.from_url(url, timeout))

    def get_many(self, user_ids: Sequence[int]) -> list[Found]:
        keys = [self._server.user_key(user_id) for user_id in user_ids]
        if not keys:
            return []
        with self._server.reached():
            values = cast(list[bytes | None], self._client.mget(keys))
        return [decode_or_error(data) for data in values]

    def put_many(self, records: Mapping[int, UserRecord]) -> None:
        pairs = [(self._server.user_key(user_id), encode(record)) for user_id, record in records.items()]
        for some in _chunks(pairs):
            pipeline = self._client.pipeline(transaction=False)
            for key, data in some:
                pipeline.set(key, data)
            with self._server.reached():
                pipeline.execute()

    def delete_many(self, user_ids: Iterable[int]) -> None:
        for some in _chunks([self._server.user_key(user_id) for user_id in user_ids]):
            with self._server.reached():
                self._client.delete(*some)

    def close(self) -> None:
        self._client.close()


_NOT_A_URL = (
    "store URL: expected redis://[[user]:password@]host[:port][/database], "
    "special characters of the password percent-encoded"
)


def _location(parts: SplitResult) -> str:
    """Where the server is, without its credentials. Raises ValueError on what is not a server's URL."""
    database = parts.path.strip("/")
    stray = "@" in parts.query or parts.fragment  # the end of a password, most likely
    if not parts.hostname or stray or (database and not database.isdigit()):
        raise ValueError(_NOT_A_URL)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}/{database or 0}"


def _chunks(elements: Sequence[Element]) -> Iterator[list[Element]]:
    remaining = iter(elements)
    while some := list(islice(remaining, COMMANDS_AT_ONCE)):
        yield some
