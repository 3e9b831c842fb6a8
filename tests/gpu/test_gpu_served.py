"""The profile gpu_torch on the real Triton and on a device, with pages from end to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tritonrec_client import Client
from tritonrec_client.contract import RECOMMEND, RETRIEVE_AND_RANK

from python_backend.gpu.stage import RetrieveAndRank
from python_backend.release import Release
from tools.evaluation.served import infer
from tools.gpu.parity import NEAR, difference
from tools.gpu.serving import server_of, stage_requests
from tools.serving.server import TritonServer

pytestmark = [
    pytest.mark.server,
    # On the processor tests/server/test_gpu_torch.py asks for the same and more.
    pytest.mark.parametrize(
        "device",
        [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)],
        indirect=True,
        scope="session",
    ),
]


@pytest.fixture(scope="module")
def server(
    made_up: tuple[Release, str], device: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    release, url = made_up
    folder = tmp_path_factory.mktemp("served")
    with server_of(release, folder, store_url=url, device=device, models=[RECOMMEND.name]) as server:
        yield server


def test_the_stage_is_served_as_it_answers_in_process(
    server: TritonServer, stage: RetrieveAndRank, made_up: tuple[Release, str]
) -> None:
    requests = stage_requests(made_up[0], 40_000, 9, seed=8)
    with server.client() as client:
        served = infer(client, RETRIEVE_AND_RANK.name, made_up[0].name, requests)
    alone = stage(requests)

    np.testing.assert_array_equal(served["candidate"], alone["candidate"])
    for name in ("retrieval_score", "rank_score"):
        assert difference(served[name], alone[name]) <= NEAR


def test_users_get_pages_of_their_own_and_strangers_get_one_too(server: TritonServer) -> None:
    with Client(server.address, timeout=30) as client:
        pages = [client.recommend(user) for user in (1, 2, 3, 10**9)]
    lists = [tuple(item.item_id for item in page.items) for page in pages]

    assert all(len(set(each)) == 20 for each in lists)
    assert len(set(lists)) == 4
    assert len({page.release for page in pages}) == 1
