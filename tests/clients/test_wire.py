"""What tritonclient is given, and what is understood of its answers."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE, model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException
from tritonrec_client import Keepalive, Request, Tls
from tritonrec_client.exchange import Failure
from tritonrec_client.request import ModelShape, check, stack
from tritonrec_client.wire import connection_options, failure, infer_arguments, model_shape


def test_messages_may_be_as_large_as_tritonclient_itself_allows() -> None:
    arguments = dict(connection_options(Keepalive(), None)["channel_args"])
    assert arguments["grpc.max_send_message_length"] == MAX_GRPC_MESSAGE_SIZE
    assert arguments["grpc.max_receive_message_length"] == MAX_GRPC_MESSAGE_SIZE


def test_keepalive_is_given_in_milliseconds() -> None:
    arguments = dict(connection_options(Keepalive(1.5, 0.25, True), None)["channel_args"])
    assert arguments["grpc.keepalive_time_ms"] == 1500
    assert arguments["grpc.keepalive_timeout_ms"] == 250
    assert arguments["grpc.keepalive_permit_without_calls"] == 1


def test_connections_are_encrypted_when_asked_for() -> None:
    assert "ssl" not in connection_options(Keepalive(), None)
    assert connection_options(Keepalive(), Tls("ca.pem"))["root_certificates"] == "ca.pem"


def test_tensors_travel_as_raw_bytes_and_the_deadline_travels_along() -> None:
    now = time.time() * 1000
    inputs = stack([check(Request(5, [7], 0.5))], ModelShape(2, 20, 8))
    arguments = infer_arguments("recommend", inputs, 0.25, {"x-caller": "test"})
    contents = {tensor.name(): tensor._get_content() for tensor in arguments["inputs"]}
    assert contents == {
        "user_id": np.int64(5).tobytes(),
        "session_items": np.array([-1, 7]).tobytes(),
        "diversity": np.float32(0.5).tobytes(),
    }
    assert arguments["client_timeout"] == 0.25
    assert now + 249 <= arguments["parameters"]["deadline_ms"] <= time.time() * 1000 + 250
    assert arguments["headers"] == {"x-caller": "test"}


def test_a_stage_s_refusal_for_lack_of_time_is_an_expired_deadline() -> None:
    words = "in ensemble 'recommend', deadline_ms: found 3 ms left before rank; allowed is 20 or more"
    refused = failure(InferenceServerException(words, status="StatusCode.UNAVAILABLE"))
    assert refused == Failure("DEADLINE_EXCEEDED", words)


def config(**widths: list[int]) -> service_pb2.ModelConfigResponse:
    model = model_config_pb2.ModelConfig(name="recommend", max_batch_size=16)
    for name, dims in widths.items():
        (model.output if name == "item_id" else model.input).add(name=name, dims=dims)
    return service_pb2.ModelConfigResponse(config=model)


def test_the_model_s_configuration_gives_its_widths() -> None:
    assert model_shape(config(session_items=[30], item_id=[25], user_id=[1])) == ModelShape(30, 25, 16)


@pytest.mark.parametrize("widths", [{}, {"session_items": [30]}, {"session_items": [3, 4], "item_id": [20]}])
def test_another_model_s_configuration_is_refused(widths: dict[str, list[int]]) -> None:
    assert model_shape(config(**widths)) == Failure(
        "FAILED_PRECONDITION", "the model 'recommend' does not keep tritonrec's contract"
    )


def test_a_failure_keeps_its_status_and_words() -> None:
    error = InferenceServerException("it is gone", "StatusCode.UNAVAILABLE")
    assert failure(error) == Failure("UNAVAILABLE", "it is gone")
    assert failure(InferenceServerException("made here")) == Failure("UNKNOWN", "made here")


def test_a_model_that_a_stopping_server_has_unloaded_is_to_be_asked_for_elsewhere() -> None:
    words = "Request for unknown model: 'recommend' has no available versions"
    assert failure(InferenceServerException(words, "StatusCode.NOT_FOUND")).status == "UNAVAILABLE"
    never = InferenceServerException("Request for unknown model: 'x' is not found", "StatusCode.NOT_FOUND")
    assert failure(never).status == "NOT_FOUND"
