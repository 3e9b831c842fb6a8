"""What `feature_lookup` serves from the store is what the models were trained on, for every user."""

from __future__ import annotations

import numpy as np
import pytest
from calls import Arrays, request_of
from tiny import LONGEST, WITHOUT_EVENTS, WITHOUT_FEATURES, Server
from tritonrec_client.contract import Status

from tools.data.interactions import Interactions
from tools.evaluation.served import infer
from tools.training.features import Features

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def looked_up(staged_server: Server) -> Arrays:
    """What the served stage knows of all users of the data, in their order."""
    server = staged_server
    users = server.dataset.interactions.user_ids.tolist()
    with server.triton.client() as client:
        parts = [
            infer(
                client, "feature_lookup", server.release, request_of(server.sizes, users[begin : begin + 64])
            )
            for begin in range(0, len(users), 64)
        ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def items_of(interactions: Interactions, newest: int) -> list[list[int]]:
    """Each user's `newest` items, oldest first."""
    return [interactions.user(row)[-newest:].tolist() for row in range(interactions.n_users)]


def test_features_are_those_of_training(server: Server, looked_up: Arrays) -> None:
    trained_on = Features.of(server.dataset, server.build.config).users
    np.testing.assert_array_equal(looked_up["user_features"], trained_on)
    without = ~trained_on.any(axis=1)
    assert without.sum() >= WITHOUT_FEATURES  # the data hold every kind of user
    assert not without.all()


def test_items_stand_at_the_index_that_the_models_know(server: Server) -> None:
    with np.load(server.build.release.artifacts / "items.npz") as arrays:
        np.testing.assert_array_equal(arrays["wire_id"], server.dataset.interactions.item_ids)
        np.testing.assert_array_equal(arrays["codes"], Features.of(server.dataset, server.build.config).items)


def test_the_history_is_the_newest_items_of_the_data_newest_last(server: Server, looked_up: Arrays) -> None:
    width = server.sizes.history
    expected = [[0] * (width - len(items)) + items for items in items_of(server.dataset.interactions, width)]
    assert looked_up["history"].tolist() == expected
    assert sum(not any(items) for items in expected) == WITHOUT_EVENTS


def test_seen_are_all_items_of_the_data_or_as_many_as_the_build_keeps(
    server: Server, looked_up: Arrays
) -> None:
    width, interactions = server.sizes.seen, server.dataset.interactions
    expected = [items + [0] * (width - len(items)) for items in items_of(interactions, width)]
    assert looked_up["seen"].tolist() == expected
    truncated = interactions.lengths > width
    assert interactions.lengths.max() == LONGEST > width
    status = np.where(truncated, Status.SEEN_TRUNCATED, Status.OK)
    assert looked_up["lookup_status"][:, 0].tolist() == status.tolist()


def test_a_session_follows_what_the_store_holds(staged_server: Server) -> None:
    server = staged_server
    interactions = server.dataset.interactions
    row = int(np.flatnonzero((interactions.lengths > 6) & (interactions.lengths < server.sizes.seen))[0])
    known = interactions.user(row)
    fresh = next(item for item in range(1, interactions.n_items + 1) if item not in known)
    # A new item, one of long ago that thereby becomes the newest, and one that no release knows.
    session = [*interactions.item_ids[[fresh, known[0]]].tolist(), 2**62]
    request = request_of(server.sizes, [int(interactions.user_ids[row])], session=session)
    with server.triton.client() as client:
        answer = infer(client, "feature_lookup", server.release, request)
    expected = [*known[1:].tolist(), fresh, int(known[0])]
    assert answer["seen"][0, : len(expected) + 1].tolist() == [*expected, 0]
    width = server.sizes.history
    assert answer["history"][0, -min(width, len(expected)) :].tolist() == expected[-width:]
    assert answer["lookup_status"][0, 0] == Status.UNKNOWN_SESSION_ITEM
