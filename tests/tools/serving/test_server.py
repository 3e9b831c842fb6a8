"""A real server, from its start to its end, with stages that need no model."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from toy_release import FAULT, RELEASE, SIZES, make_release
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonrec_client.contract import FEEDBACK, RECOMMEND, STAGES, release_from_wire

from python_backend.metrics import EVERY
from tools.serving.metrics import StageTime, spent
from tools.serving.repository import write_served_repository
from tools.serving.server import LOCAL, STAGED, Ports, TritonServer
from tools.serving.wheel import ServerUnavailableError

pytestmark = pytest.mark.server


PROCESSES = {
    LOCAL: {"pipeline": 2},
    STAGED: {"feature_lookup": 1, "retrieve": 2, "rank": 2, "rerank": 1},
}


def make_server(build: Path, release: Path, profile: str = LOCAL, **overrides: str) -> TritonServer:
    write_served_repository([release], RELEASE, build / "served", overrides=overrides)
    return TritonServer(
        build / "served", log=build / "triton.log", backends=build / "backends", profile=profile
    )


@pytest.fixture(scope="module", params=PROCESSES)
def profile(request: pytest.FixtureRequest) -> str:
    """Everything holds for one model of all stages and for a model per stage."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(profile: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    build = tmp_path_factory.mktemp("build")
    with make_server(build, make_release(build, RELEASE), profile) as server:
        yield server


@pytest.fixture
def client(server: TritonServer) -> Iterator[Any]:
    with server.client() as client:
        yield client


def tensors(rows: int = 1, user_id: int = -1) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "user_id": np.full((rows, 1), user_id, np.int64),
        "session_items": np.full((rows, SIZES.session), -1, np.int64),
        "diversity": np.zeros((rows, 1), np.float32),
    }


def ask(client: Any, arrays: dict[str, np.ndarray[Any, Any]], **options: Any) -> Any:
    inputs = []
    for name, array in arrays.items():
        inputs.append(grpcclient.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    return client.infer(RECOMMEND.name, inputs, client_timeout=10, **options)


def refusal(client: Any, arrays: dict[str, np.ndarray[Any, Any]], **options: Any) -> tuple[str, str]:
    """The status and the message of a request that is refused; the next one is answered as before."""
    with pytest.raises(InferenceServerException) as refused:
        ask(client, arrays, **options)
    assert ask(client, tensors()).as_numpy("item_id").tolist() == [[1, 2, 3, 4, 5]]
    return str(refused.value.status()).removeprefix("StatusCode."), refused.value.message()


def test_the_ensemble_answers_every_row(client: Any) -> None:
    result = ask(client, tensors(rows=3))

    assert result.as_numpy("item_id").tolist() == [[1, 2, 3, 4, 5]] * 3
    assert result.as_numpy("status").tolist() == [[0]] * 3


def test_every_stage_says_which_release_it_belongs_to(client: Any) -> None:
    result = ask(client, tensors())

    for stage in STAGES:
        assert release_from_wire(result.as_numpy(f"{stage.name}_release")[0, 0]) == RELEASE


def test_a_request_with_as_many_rows_as_are_allowed_is_answered(client: Any) -> None:
    assert ask(client, tensors(rows=64)).as_numpy("item_id").shape == (64, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diversity": None}, "missing required input(s) ['diversity']"),
        (
            {"user_id": np.zeros((1, 1), np.int32)},
            "'user_id' data-type is 'INT32', but model 'recommend' expects",
        ),
        (
            {"session_items": np.zeros((1, 7), np.int64)},
            "'session_items' for model 'recommend'. Expected [-1,3]",
        ),
        (
            {"user_id": np.zeros(1, np.int64)},
            "shape for input 'user_id' for model 'recommend'. Expected [-1,1]",
        ),
        ({"user_id": np.zeros((2, 1), np.int64)}, "'user_id' batch size does not match other inputs"),
        (tensors(rows=0), "input byte size mismatch for input"),
        (tensors(rows=65), "batch-size must be <= 64"),
        (
            {"user_id": np.full((1, 1), -2, np.int64)},
            "user_id: found -2; allowed is -1 or an id of 0 or more",
        ),
    ],
    ids=["missing", "type", "width", "dimensions", "rows differ", "no rows", "too many rows", "value"],
)
def test_a_bad_request_is_refused_by_the_name_of_its_field(
    client: Any, change: dict[str, np.ndarray[Any, Any] | None], message: str
) -> None:
    changed = {name: array for name, array in (tensors() | change).items() if array is not None}
    status, found = refusal(client, changed)

    assert message in found
    assert status == "INVALID_ARGUMENT"


def test_a_stage_that_breaks_down_answers_with_an_error_and_serves_on(client: Any) -> None:
    status, message = refusal(client, tensors(user_id=FAULT))

    assert status == "INTERNAL"
    assert "feature_lookup failed (RuntimeError: a fault of the stage)" in message


def test_a_request_whose_deadline_has_passed_is_not_computed(client: Any) -> None:
    a_second_ago = int(time.time() * 1000) - 1000
    status, message = refusal(client, tensors(), parameters={"deadline_ms": a_second_ago})

    assert status == "UNAVAILABLE"
    assert re.search(
        r"deadline_ms: found -1\d\d\d ms left before (pipeline|feature_lookup); allowed is \d+ or more",
        message,
    )


def test_a_deadline_that_is_no_time_is_a_bad_request(client: Any) -> None:
    status, message = refusal(client, tensors(), parameters={"deadline_ms": "soon"})

    assert status == "INVALID_ARGUMENT"
    assert "deadline_ms: found 'soon'; allowed is an integer, milliseconds of Unix time" in message


def test_a_request_that_is_in_time_is_answered(client: Any) -> None:
    in_a_minute = int(time.time() * 1000) + 60_000
    result = ask(client, tensors(), parameters={"deadline_ms": in_a_minute})

    assert result.as_numpy("item_id").shape == (1, 5)


def test_under_load_no_request_is_overlooked(server: TritonServer) -> None:
    """The batcher looks again after half a second when it missed one."""

    def slowest(_: int) -> float:
        with server.client() as client:
            times = []
            for _ in range(100):
                started = time.perf_counter()
                ask(client, tensors())
                times.append(time.perf_counter() - started)
        return max(times)

    with ThreadPoolExecutor(16) as threads:
        assert max(threads.map(slowest, range(16))) < 0.45


def test_bad_requests_do_not_touch_those_that_share_a_batch_with_them(server: TritonServer) -> None:
    def alternate(offset: int) -> list[str]:
        answers = []
        with server.client() as client:
            for number in range(20):
                try:
                    ask(client, tensors(user_id=-5 if (number + offset) % 2 else number))
                    answers.append("a page")
                except InferenceServerException as error:
                    answers.append(error.message())
        return answers

    refused = "in ensemble 'recommend', user_id: found -5; allowed is -1 or an id of 0 or more"
    with ThreadPoolExecutor(8) as threads:
        for offset, answers in enumerate(threads.map(alternate, range(8))):
            assert answers == [refused if (number + offset) % 2 else "a page" for number in range(20)]


def test_each_model_was_warmed_in_each_of_its_processes_with_both_batch_sizes(
    server: TritonServer, profile: str
) -> None:
    statistics = server.statistics()

    for stage, processes in PROCESSES[profile].items():
        with server.client() as client:
            batches = client.get_inference_statistics(f"{stage}_{RELEASE}").model_stats[0].batch_stats
        assert {1, 64} <= {batch.batch_size for batch in batches}
        assert statistics[f"{stage}_{RELEASE}"].executions >= 2 * processes


def test_what_was_started_behind_others_serves_with_the_servers_own_priority(server: TritonServer) -> None:
    priorities = {os.getpriority(os.PRIO_PROCESS, pid) for pid in stage_processes(server.pid)}

    assert priorities == {os.getpriority(os.PRIO_PROCESS, server.pid)}


def test_statistics_between_two_looks_count_what_was_asked(
    server: TritonServer, client: Any, profile: str
) -> None:
    before = server.statistics()
    for _ in range(10):
        ask(client, tensors())
    after = server.statistics()

    for stage in PROCESSES[profile]:
        counted = after[f"{stage}_{RELEASE}"] - before[f"{stage}_{RELEASE}"]
        assert (counted.requests, counted.executions) == (10, 10)
        assert counted.compute_ms > 0


def test_the_metrics_tell_what_each_stage_took_whatever_model_it_is_in(
    server: TritonServer, client: Any
) -> None:
    time.sleep(2 * EVERY)
    before = server.stage_times()
    for _ in range(10):
        ask(client, tensors())
    names = [stage.name for stage in STAGES]

    def times() -> dict[str, StageTime]:
        now = spent(before, server.stage_times())
        return {name: now.get(name, StageTime()) for name in names}

    wait_until(lambda: [time.batches for time in times().values()] == [10] * len(STAGES))
    assert all(time.seconds > 0 for time in times().values())


def test_a_taken_port_is_named_before_anything_starts(server: TritonServer) -> None:
    taken = TritonServer(
        server.repository, log=server.log.with_name("other.log"), backends=server.log.parent / "backends"
    )
    taken.ports = replace(taken.ports, http=server.ports.http)

    with pytest.raises(
        ServerUnavailableError, match=f"http port 127.0.0.1:{server.ports.http}: Address already"
    ):
        taken.start()


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = Ports.free()

    assert len({ports.grpc, ports.http, ports.metrics}) == 3
    with socket.socket() as each:
        each.bind(("127.0.0.1", ports.grpc))


def test_a_stage_that_cannot_be_loaded_is_the_reason_that_is_given(
    tmp_path: Path, new_release: Callable[[str], Path]
) -> None:
    server = make_server(tmp_path, new_release(RELEASE), rules_file="broken")

    with pytest.raises(ServerUnavailableError, match="ValueError: the rules are broken"):
        server.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_a_dead_stage_is_noticed_an_unloaded_one_is_not_and_nothing_is_left_behind(
    tmp_path: Path, new_release: Callable[[str], Path]
) -> None:
    others = shared_memory()
    with make_server(tmp_path, new_release(RELEASE)) as server:
        group = server.pid
        assert server.dead_stages() == []

        with server.client() as client:
            client.unload_model("recommend")
            client.unload_model(f"recommend_{RELEASE}")
            client.unload_model(f"pipeline_{RELEASE}")
            wait_until(lambda: not client.is_model_ready(f"pipeline_{RELEASE}"))
            wait_until(lambda: len(stage_processes(group)) == len(FEEDBACK))
            assert server.dead_stages() == []

        victim = stage_processes(group)[0]
        os.kill(victim, signal.SIGKILL)
        assert server.wait() == "1 of the stages' processes died"
        assert server.dead_stages() == [victim]

    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert shared_memory() == others


def shared_memory() -> set[Path]:
    """What servers that this process started hold in shared memory."""
    return set(Path("/dev/shm").glob(f"tritonrec_{os.getpid()}_*"))


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stage_processes(server: int) -> list[int]:
    """The processes of a server's stages."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(server):
                found.append(int(path.parent.name))
    return sorted(found)
