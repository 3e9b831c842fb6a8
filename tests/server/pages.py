"""What every page must be, worked out from the data alone."""

from __future__ import annotations

import numpy as np
from calls import Arrays
from tritonrec_client.contract import (
    ANONYMOUS,
    PADDING_ID,
    STAGES,
    Reason,
    Sizes,
    Status,
    release_from_wire,
)

from tools.data.interactions import Interactions


class Oracle:
    """Knows what a release may answer to a request, though not what it likes best."""

    def __init__(self, interactions: Interactions, sizes: Sizes, release: str) -> None:
        wire = interactions.item_ids
        self._users = {
            int(user): wire[interactions.user(row)].tolist() for row, user in enumerate(interactions.user_ids)
        }
        self._items = set(wire[1:].tolist())
        self._sizes = sizes
        self._release = release

    def assert_valid(self, request: Arrays, answer: Arrays) -> None:
        """Fail unless `answer` holds one valid page for each row of `request`."""
        rows = len(request["user_id"])
        assert {len(array) for array in answer.values()} == {rows}
        for stage in STAGES:
            releases = answer[f"{stage.name}_release"][:, 0].tolist()
            assert {release_from_wire(value) for value in releases} == {self._release}
        for row in range(rows):
            self._assert_page(
                int(request["user_id"][row, 0]),
                request["session_items"][row].tolist(),
                float(request["diversity"][row, 0]),
                answer["item_id"][row].tolist(),
                answer["score"][row],
                answer["reason"][row].tolist(),
                Status(int(answer["status"][row, 0])),
            )

    def _assert_page(
        self,
        user: int,
        session: list[int],
        diversity: float,
        items: list[int],
        scores: np.ndarray,
        reasons: list[int],
        status: Status,
    ) -> None:
        count = sum(item != PADDING_ID for item in items)
        assert len(items) == self._sizes.results
        assert all(item == PADDING_ID for item in items[count:])
        assert len(set(items[:count])) == count
        assert set(items[:count]) <= self._items

        met = self._met(user, session)
        seen = met[-self._sizes.seen :]
        assert not set(items) & set(seen)
        assert count == min(self._sizes.results, len(self._items) - len(seen))
        assert status == self._status(user, session, len(met), count)

        assert np.isfinite(scores).all()
        assert (scores >= 0).all()
        assert scores.sum() <= 1 + 1e-5
        assert (scores[count:] == 0).all()
        if diversity == 0:
            assert (np.diff(scores[:count]) <= 0).all()

        base = Reason.HISTORY if met else Reason.POPULAR
        allowed = {base, Reason.VARIETY} if diversity else {base}
        assert set(reasons[:count]) <= allowed
        assert set(reasons[count:]) <= {Reason.PADDING}

    def _met(self, user: int, session: list[int]) -> list[int]:
        """The known items of the user's past and session, each where it came last, oldest first."""
        items = [item for item in [*self._users.get(user, ()), *session] if item in self._items]
        return list(reversed(dict.fromkeys(reversed(items))))

    def _status(self, user: int, session: list[int], met: int, count: int) -> Status:
        status = Status.OK
        if user == ANONYMOUS:
            status |= Status.ANONYMOUS_USER
        elif user not in self._users:
            status |= Status.UNKNOWN_USER
        if any(item not in self._items for item in session if item != PADDING_ID):
            status |= Status.UNKNOWN_SESSION_ITEM
        if met > self._sizes.seen:
            status |= Status.SEEN_TRUNCATED
        return status | (Status.SHORT_PAGE if count < self._sizes.results else Status.OK)
