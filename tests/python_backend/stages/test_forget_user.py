from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tritonrec_client.contract import Event, Sizes

from python_backend.batch import BatchAnswerer
from python_backend.pipeline import load_stage
from python_backend.release import Release
from python_backend.stages.base import InvalidRequest, Unavailable
from python_backend.stages.forget_user import ForgetUser
from python_backend.stores import UserEvent, open_event_log

RELEASE = Release("0123456789ab", Sizes(), Path())


def users(*ids: int) -> dict[str, np.ndarray]:
    return {"user_id": np.array(ids, np.int64).reshape(-1, 1)}


def test_each_row_says_whether_there_was_something(tmp_path: Path) -> None:
    with open_event_log(f"lmdb://{tmp_path}") as log:
        log.record(
            [UserEvent(user_id, 10, Event.CLICK, 100, user_id.to_bytes(16, "big")) for user_id in (1, 2, 3)]
        )
        stage = load_stage("forget_user", RELEASE, {"store_url": f"lmdb://{tmp_path}"})
        answer = stage(users(3, 9, 1, 3))
        assert answer["forgotten"].dtype == np.int32
        assert answer["forgotten"].tolist() == [[1], [0], [1], [0]]
        assert [each.user_id for _, each in log.read()] == [2]
        assert set(log.forgotten()) == {1, 3, 9}


@pytest.mark.parametrize("user_id", [-1, -(2**63)])
def test_an_id_that_nobody_has_is_refused(tmp_path: Path, user_id: int) -> None:
    with open_event_log(f"lmdb://{tmp_path}") as log:
        (answer,) = BatchAnswerer(ForgetUser(log), RELEASE)([users(1, user_id)])
    assert isinstance(answer, InvalidRequest)
    assert str(answer) == f"user_id: found {user_id}; allowed is an id from 0 to 9223372036854775807"


def test_a_store_that_is_away_refuses() -> None:
    stage = load_stage("forget_user", RELEASE, {"store_url": "redis://127.0.0.1:1/0"})
    (answer,) = BatchAnswerer(stage, RELEASE)([users(1)])
    assert isinstance(answer, Unavailable)
