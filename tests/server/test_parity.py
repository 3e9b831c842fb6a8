"""What is served is what the stages compute in one process, whoever else is in the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from calls import Arrays, ask, ask_at_once, assert_same_pages, request_of, rows_of
from tiny import Server
from tritonrec_client.contract import RECOMMEND, STAGES, Status, release_from_wire

from python_backend.pipeline import Pipeline
from tools.evaluation.served import infer

pytestmark = pytest.mark.server

BATCH = 64
OUTPUTS = ("item_id", "score", "reason", "status")


def everyone(server: Server, diversity: float) -> Arrays:
    """A row for every user of the data, for somebody unknown and for nobody; one in three has a session."""
    users = [*server.dataset.interactions.user_ids.tolist(), 2**62, -1]
    request = request_of(server.sizes, users, diversity=diversity)
    items = np.append(server.dataset.interactions.item_ids[1:], 2**62)
    rng = np.random.default_rng(3)
    for row in range(0, len(users), 3):
        request["session_items"][row] = rng.choice(items, size=server.sizes.session, replace=False)
    return request


def in_batches(call: Any, request: Arrays, size: int) -> Arrays:
    rows = len(request["user_id"])
    answers = [call(rows_of(request, slice(begin, begin + size))) for begin in range(0, rows, size)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in OUTPUTS}


@pytest.fixture(params=[0.0, 0.3, 1.0], ids=lambda value: f"diversity {value:g}")
def request_(request: pytest.FixtureRequest, server: Server) -> Arrays:
    return everyone(server, request.param)


def test_every_user_is_served_what_the_stages_compute_in_process(
    grpc_client: Any, pipeline: Pipeline, request_: Arrays
) -> None:
    served = in_batches(lambda rows: ask(grpc_client, rows), request_, BATCH)
    assert_same_pages(served, in_batches(pipeline, request_, BATCH))
    # The comparison would be empty if the store had not been reached or nobody were known.
    assert (served["status"] == Status.OK).mean() > 0.5


def test_a_batch_is_served_what_each_of_its_users_is_served_alone(grpc_client: Any, request_: Arrays) -> None:
    together = in_batches(lambda rows: ask(grpc_client, rows), request_, BATCH)
    alone = ask_at_once(
        grpc_client, [rows_of(request_, slice(row, row + 1)) for row in range(len(request_["user_id"]))]
    )
    assert_same_pages(together, {name: np.concatenate([page[name] for page in alone]) for name in OUTPUTS})


def test_in_process_a_batch_gets_what_each_of_its_users_gets_alone(
    pipeline: Pipeline, request_: Arrays
) -> None:
    assert_same_pages(in_batches(pipeline, request_, BATCH), in_batches(pipeline, request_, 1))


def test_stages_in_one_model_and_in_a_model_each_give_the_same_pages(
    server: Server, staged_server: Server, grpc_client: Any, request_: Arrays
) -> None:
    first = rows_of(request_, slice(BATCH))
    served = ask(grpc_client, first)
    with staged_server.triton.client() as client:
        assert_same_pages(ask(client, first), served)
        tensors = dict(first)
        for stage in STAGES:
            tensors |= infer(client, stage.name, server.release, tensors)
    assert_same_pages(tensors, served)


def test_every_stage_says_for_every_row_which_release_it_belongs_to(server: Server, grpc_client: Any) -> None:
    page = ask(grpc_client, rows_of(everyone(server, 0.3), slice(BATCH)))
    for stage in STAGES:
        releases: npt.NDArray[np.int64] = page[f"{stage.name}_release"]
        assert {release_from_wire(value) for value in releases[:, 0].tolist()} == {server.release}
        assert len(releases) == BATCH
    assert set(page) == {tensor.name for tensor in RECOMMEND.outputs}
