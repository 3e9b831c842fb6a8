"""What every feature store can do."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from tritonrec_client.contract import MAX_ID

from python_backend.stores.records import CorruptRecord, UserRecord

Found = UserRecord | CorruptRecord | None
"""What a look-up gives for one user: the record, an error as a value where it cannot be read, or None."""


class StoreUnavailable(Exception):
    """The store is down, too slow or not there; the message names it without its password."""


class FeatureStore(abc.ABC):
    """Users' records by wire id.

    A store connects when it is first used and again after a failure, so it may be made before its
    server runs. It may be used from several threads.
    """

    location: str
    """Where the records are, for messages; holds no password."""

    @abc.abstractmethod
    def get_many(self, user_ids: Sequence[int]) -> list[Found]:
        """What is known of each of `user_ids`, in their order, from one round trip.

        An unknown user is None, and a record that cannot be read is a CorruptRecord, not raised.

        Raises StoreUnavailable, and ValueError on an id below 0.
        """

    @abc.abstractmethod
    def put_many(self, records: Mapping[int, UserRecord]) -> None:
        """Write `records`, replacing what the store has of these users.

        Raises StoreUnavailable, and ValueError on an id below 0.
        """

    @abc.abstractmethod
    def delete_many(self, user_ids: Iterable[int]) -> None:
        """Forget these users; unknown ones are no error.

        Raises StoreUnavailable, and ValueError on an id below 0.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give connections and files back; the store opens them again where it is used again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def checked(user_id: int) -> int:
    """`user_id` as an int; raises ValueError where no stored user can have it."""
    if not 0 <= user_id <= MAX_ID:
        raise ValueError(f"user id is {user_id}; a stored user's id is 0 to 2**63 - 1")
    return int(user_id)
