"""Who asks to be forgotten is: the record, every logged event, and what a later build would bring back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from tritonrec_client.contract import MAX_ID

from python_backend.release import Release
from python_backend.stages.base import Array, Arrays, InvalidRequest, Stage, Unavailable
from python_backend.stages.options import event_log
from python_backend.stores import EventLog, StoreUnavailable


class ForgetUser(Stage):
    """Forgets a batch of users as one.

    Takes user_id int64 ``[B, 1]``. Gives forgotten int32 ``[B, 1]``: 1 where there was something to forget,
    else 0; either way it is on disk that the user is to be forgotten. Raises Unavailable where the store is.
    """

    name: ClassVar[str] = "forget_user"

    def __init__(self, log: EventLog) -> None:
        self._log = log

    @classmethod
    def load(cls, release: Release, options: Mapping[str, str]) -> Self:
        """The stage, whether or not its store can be reached now; options: those of `event_log`."""
        return cls(event_log(options))

    def check(self, inputs: Arrays) -> None:
        wrong = inputs["user_id"][inputs["user_id"] < 0]
        if wrong.size:
            raise InvalidRequest("user_id", int(wrong[0]), f"an id from 0 to {MAX_ID}")

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        try:
            there = self._log.forget(inputs["user_id"][:, 0].tolist())
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from error
        return {"forgotten": np.array(there, np.int32).reshape(-1, 1)}
