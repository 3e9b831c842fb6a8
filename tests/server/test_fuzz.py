"""Whatever is sent, there are two outcomes: a valid page, or a refusal that says what is wrong."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from calls import PATIENCE, Arrays
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Oracle
from processes import children_of, started_at
from tiny import ITEM_IDS, USER_IDS, USERS_WITHOUT_EVENTS, Server
from tritonclient.grpc.service_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonrec_client.contract import ANONYMOUS, MAX_ID, PADDING_ID, RECOMMEND

pytestmark = pytest.mark.server

SESSION = 5
MAX_BATCH = 64
EXAMPLES = 150
"""Of each test; each sends up to 24 requests at once."""
DTYPES = {"INT64": np.dtype("<i8"), "FP32": np.dtype("<f4")}


class Row(NamedTuple):
    user: int
    session: tuple[int, ...]
    diversity: float


def one_of(ids: range) -> st.SearchStrategy[int]:
    return st.integers(0, len(ids) - 1).map(lambda place: ids[place])


USERS = st.one_of(
    one_of(USER_IDS),
    one_of(USERS_WITHOUT_EVENTS),
    st.sampled_from([ANONYMOUS, 0, 2**31, MAX_ID]),
    st.integers(0, MAX_ID),
)
ITEMS = st.one_of(
    one_of(ITEM_IDS),
    one_of(ITEM_IDS[:3]),
    st.sampled_from([PADDING_ID, PADDING_ID, 0, MAX_ID]),
    st.integers(0, MAX_ID),
)
SESSIONS = st.tuples(*[ITEMS] * SESSION)
DIVERSITIES = st.sampled_from([0.0, 0.3, 1.0]) | st.floats(0, 1, width=32)
ROWS = st.builds(Row, USERS, SESSIONS, DIVERSITIES)

BAD_IDS = st.integers(-(2**63), -2)
BAD_SESSIONS = st.tuples(*[ITEMS] * (SESSION - 1), BAD_IDS).flatmap(st.permutations).map(tuple)
BAD_DIVERSITIES = st.one_of(
    st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.1, 1.000001]),
    st.floats(2, 2.0**100, width=32),
    st.floats(-(2.0**100), -(2.0**-100), width=32),
)
BAD_ROWS = st.one_of(
    st.builds(Row, BAD_IDS, SESSIONS, DIVERSITIES),
    st.builds(Row, USERS, BAD_SESSIONS, DIVERSITIES),
    st.builds(Row, USERS, SESSIONS, BAD_DIVERSITIES),
    st.builds(Row, BAD_IDS, BAD_SESSIONS, BAD_DIVERSITIES),
)


def batches(rows: st.SearchStrategy[Row]) -> st.SearchStrategy[list[Row]]:
    """A few rows, or many: up to as many as a request may have."""
    few = st.lists(rows, min_size=1, max_size=5)
    many = st.tuples(few, st.integers(1, MAX_BATCH)).map(lambda drawn: (drawn[0] * MAX_BATCH)[: drawn[1]])
    return st.one_of(few, few, many)


def tensors_of(rows: Sequence[Row]) -> Arrays:
    return {
        "user_id": np.array([[row.user] for row in rows], np.int64),
        "session_items": np.array([row.session for row in rows], np.int64),
        "diversity": np.array([[row.diversity] for row in rows], np.float32),
    }


def message_of(arrays: Arrays) -> ModelInferRequest:
    """The request as it travels."""
    message = ModelInferRequest(model_name=RECOMMEND.name)
    for tensor in RECOMMEND.inputs:
        array = arrays[tensor.name]
        message.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=array.shape)
        message.raw_input_contents.append(array.astype(DTYPES[tensor.dtype]).tobytes())
    return message


def arrays_in(message: ModelInferRequest | ModelInferResponse) -> Arrays:
    """The tensors by name, ``[B, width]``.

    Rows are counted by their bytes: Triton takes a batch of 0 with the bytes of one row for that row. It
    also ignores bytes that no input is left for.
    """
    tensors, contents = (
        (message.inputs, message.raw_input_contents)
        if isinstance(message, ModelInferRequest)
        else (message.outputs, message.raw_output_contents)
    )
    types = {**DTYPES, "INT32": np.dtype("<i4")}
    return {
        tensor.name: np.frombuffer(content, types[tensor.datatype]).reshape(-1, tensor.shape[-1])
        for tensor, content in zip(tensors, contents, strict=False)
    }


class Asker:
    """Sends requests, all at once, and judges what comes back."""

    def __init__(self, address: str, oracle: Oracle) -> None:
        # More than one connection, so that the server sees several callers.
        self._channels = [grpc.insecure_channel(address, options=[("tritonrec.caller", n)]) for n in range(4)]
        self._stubs = [GRPCInferenceServiceStub(channel) for channel in self._channels]
        self._oracle = oracle

    def __call__(self, messages: Sequence[ModelInferRequest]) -> list[Arrays | grpc.RpcError]:
        calls = [
            self._stubs[place % len(self._stubs)].ModelInfer.future(message, timeout=PATIENCE)
            for place, message in enumerate(messages)
        ]
        return [self._outcome(call) for call in calls]

    @staticmethod
    def _outcome(call: Any) -> Arrays | grpc.RpcError:
        try:
            return arrays_in(call.result())
        except grpc.RpcError as refusal:
            return refusal

    def assert_page(self, request: Arrays, answer: Arrays | grpc.RpcError) -> None:
        assert not isinstance(answer, grpc.RpcError), answer.details()
        self._oracle.assert_valid(request, answer)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


@pytest.fixture(scope="module")
def asker(server: Server) -> Iterator[Asker]:
    asker = Asker(server.grpc_address, Oracle(server.dataset.interactions, server.sizes, server.release))
    yield asker
    asker.close()


@pytest.fixture(scope="module", autouse=True)
def same_processes(server: Server) -> Iterator[None]:
    """At the end the server and all of its stages are the processes that they were at the start."""
    pids = [server.triton.pid, *children_of(server.triton.pid)]
    assert len(pids) >= 3  # the server and its processes
    before = {pid: started_at(pid) for pid in pids}
    yield
    assert server.triton.dead_stages() == []
    assert [server.triton.pid, *children_of(server.triton.pid)] == pids
    assert {pid: started_at(pid) for pid in pids} == before


def bad_fields(row: Row) -> set[str]:
    bad = {"user_id"} if row.user < -1 else set()
    bad |= {"session_items"} if min(row.session) < -1 else set()
    return bad | (set() if 0 <= row.diversity <= 1 else {"diversity"})


@settings(settings.get_profile("server"), max_examples=EXAMPLES)
@given(requests=st.lists(batches(ROWS), min_size=1, max_size=24))
def test_whatever_is_allowed_gives_a_valid_page(asker: Asker, requests: list[list[Row]]) -> None:
    arrays = [tensors_of(rows) for rows in requests]
    for request, answer in zip(arrays, asker([message_of(each) for each in arrays]), strict=True):
        asker.assert_page(request, answer)


@settings(settings.get_profile("server"), max_examples=EXAMPLES)
@given(requests=st.lists(batches(ROWS) | batches(ROWS | BAD_ROWS), min_size=1, max_size=24))
def test_a_bad_value_refuses_its_own_request_by_the_field_s_name(
    asker: Asker, requests: list[list[Row]]
) -> None:
    arrays = [tensors_of(rows) for rows in requests]
    answers = asker([message_of(each) for each in arrays])
    for rows, request, answer in zip(requests, arrays, answers, strict=True):
        wrong = set().union(*(bad_fields(row) for row in rows))
        if not wrong:
            asker.assert_page(request, answer)
            continue
        assert isinstance(answer, grpc.RpcError)
        assert answer.code() == grpc.StatusCode.INVALID_ARGUMENT
        found = re.search(r"(\w+): found .+; allowed is .+", answer.details())
        assert found, answer.details()
        assert found[1] in wrong


def other_type(message: ModelInferRequest, choose: random.Random) -> None:
    choose.choice(message.inputs).datatype = choose.choice(
        ["INT32", "UINT64", "FP64", "FP16", "BOOL", "BYTES", "", "INT65", "int64"]
    )


def other_shape(message: ModelInferRequest, choose: random.Random) -> None:
    numbers = [-(2**63), -2, -1, 0, 1, 2, 5, 6, 64, 65, 2**31, 2**32, 2**61, 2**63 - 1]
    tensor = choose.choice(message.inputs)
    if choose.random() < 0.5 and tensor.shape:
        tensor.shape[choose.randrange(len(tensor.shape))] = choose.choice(numbers)
    else:
        del tensor.shape[:]
        tensor.shape.extend(choose.choices(numbers, k=choose.randrange(5)))


def other_name(message: ModelInferRequest, choose: random.Random) -> None:
    choose.choice(message.inputs).name = choose.choice(["", "user", "history", "user_id", "ü" * 30])


def another_input(message: ModelInferRequest, choose: random.Random) -> None:
    message.inputs.append(choose.choice(message.inputs))
    message.raw_input_contents.append(choose.choice(message.raw_input_contents))


def fewer_inputs(message: ModelInferRequest, choose: random.Random) -> None:
    place = choose.randrange(len(message.inputs))
    del message.inputs[place]
    if place < len(message.raw_input_contents) and choose.random() < 0.7:
        del message.raw_input_contents[place]


def other_order(message: ModelInferRequest, choose: random.Random) -> None:
    tensors = choose.sample(list(message.inputs), len(message.inputs))
    del message.inputs[:]
    message.inputs.extend(tensors)


def other_length(message: ModelInferRequest, choose: random.Random) -> None:
    place = choose.randrange(len(message.raw_input_contents))
    content = message.raw_input_contents[place]
    message.raw_input_contents[place] = choose.choice(
        [
            b"",
            content[:-1],
            content + b"\x00",
            content * 2,
            content[: len(content) // 2],
            choose.randbytes(4096),
        ]
    )


def noise(message: ModelInferRequest, choose: random.Random) -> None:
    place = choose.randrange(len(message.raw_input_contents))
    message.raw_input_contents[place] = choose.randbytes(len(message.raw_input_contents[place]))


def missing_content(message: ModelInferRequest, choose: random.Random) -> None:
    del message.raw_input_contents[choose.randrange(len(message.raw_input_contents)) :]


def typed_content(message: ModelInferRequest, choose: random.Random) -> None:
    contents = choose.choice(message.inputs).contents
    contents.int64_contents.extend(choose.choices([-1, 0, 2**40], k=choose.randrange(8)))
    contents.bytes_contents.extend([b"x"] * choose.randrange(3))


def shared_memory(message: ModelInferRequest, choose: random.Random) -> None:
    parameters = choose.choice(message.inputs).parameters
    parameters["shared_memory_region"].CopyFrom(InferParameter(string_param="nowhere"))
    if choose.random() < 0.7:
        parameters["shared_memory_byte_size"].CopyFrom(
            InferParameter(int64_param=choose.choice([-1, 8, 2**62]))
        )


def other_parameter(message: ModelInferRequest, choose: random.Random) -> None:
    values = [
        InferParameter(int64_param=-1),
        InferParameter(int64_param=2**62),
        InferParameter(string_param="soon"),
        InferParameter(bool_param=True),
        InferParameter(),
    ]
    name = choose.choice(["deadline_ms", "timeout", "priority", "sequence_id", "sequence_start", "", "x"])
    message.parameters[name].CopyFrom(choose.choice(values))


def other_output(message: ModelInferRequest, choose: random.Random) -> None:
    message.outputs.add(name=choose.choice(["item_id", "page", "", "candidate"]))


def other_version(message: ModelInferRequest, choose: random.Random) -> None:
    message.model_version = choose.choice(["0", "2", "-1", "one", "99999999999999999999"])


MUTATIONS = [
    other_type,
    other_shape,
    other_name,
    another_input,
    fewer_inputs,
    other_order,
    other_length,
    noise,
    missing_content,
    typed_content,
    shared_memory,
    other_parameter,
    other_output,
    other_version,
]
NAMED = re.compile(
    "(user_id|session_items|diversity|deadline_ms)"  # what we refuse, and most of what Triton does
    "|'(?!recommend')[^']*'"  # something by another name, beside that of the model
    "|batch-size|version|expected 3 inputs"
)
CORRUPTIONS = st.tuples(
    batches(ROWS), st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3), st.integers(0, 2**32)
)


@settings(settings.get_profile("server"), max_examples=EXAMPLES)
@given(corruptions=st.lists(CORRUPTIONS, min_size=1, max_size=24))
def test_a_corrupted_message_is_refused_with_a_reason_or_answered(
    asker: Asker, corruptions: list[tuple[list[Row], list[Any], int]]
) -> None:
    messages = []
    for rows, mutations, seed in corruptions:
        message = message_of(tensors_of(rows))
        for mutate in mutations:
            with contextlib.suppress(IndexError, ValueError):  # where nothing is left to change
                mutate(message, random.Random(seed))
        messages.append(message)
    for message, answer in zip(messages, asker(messages), strict=True):
        if isinstance(answer, grpc.RpcError):
            assert answer.code().name in ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE"), answer.details()
            assert NAMED.search(answer.details()), answer.details()
        elif message.outputs:
            assert set(answer) == {output.name for output in message.outputs}
        else:
            asker.assert_page(arrays_in(message), answer)
