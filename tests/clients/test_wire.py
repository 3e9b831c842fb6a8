"""What tritonclient is given, and what is understood of its answers."""

from __future__ import annotations

import time

import numpy as np
import pytest
from play import RECORD_SHAPE, shape_of
from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE, model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException
from tritonrec_client import Keepalive, Request, Tls
from tritonrec_client.contract import FORGET_USER, RECOMMEND, RECORD_EVENT, Model, Sizes
from tritonrec_client.course import Failure
from tritonrec_client.feedback import Feedback, check_events, stack_events
from tritonrec_client.request import check, stack
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
    inputs = stack([check(Request(5, [7], 0.5))], shape_of(session=2))
    arguments = infer_arguments(RECOMMEND, inputs, 0.25, {"x-caller": "test"})
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


def test_an_event_s_tensors_travel_in_the_types_of_the_contract() -> None:
    inputs = stack_events(check_events([Feedback(5, 7, "skip")]), RECORD_SHAPE)
    arguments = infer_arguments(RECORD_EVENT, inputs, 0.25, None)
    assert arguments["model_name"] == "record_event"
    assert {tensor.name(): tensor.datatype() for tensor in arguments["inputs"]} == {
        tensor.name: tensor.dtype for tensor in RECORD_EVENT.inputs
    }
    assert arguments["parameters"]["deadline_ms"] > time.time() * 1000


def config(model: Model, **dims: list[int]) -> service_pb2.ModelConfigResponse:
    """The configuration of `model` as a server gives it, some tensors with other `dims`."""
    sizes = Sizes(session=30, results=25)
    served = model_config_pb2.ModelConfig(name=model.name, max_batch_size=16)
    for tensors, side in ((model.inputs, served.input), (model.outputs, served.output)):
        for tensor in tensors:
            if width := dims.get(tensor.name, [tensor.resolve(sizes)]):
                side.add(name=tensor.name, dims=width)
    return service_pb2.ModelConfigResponse(config=served)


def test_the_model_s_configuration_gives_its_widths() -> None:
    assert model_shape(config(RECOMMEND), RECOMMEND) == shape_of(session=30, results=25, max_batch=16)


@pytest.mark.parametrize("model", [RECORD_EVENT, FORGET_USER], ids=lambda model: model.name)
def test_models_that_write_have_a_shape_too(model: Model) -> None:
    assert model_shape(config(model), model) == shape_of(max_batch=16, model=model)


@pytest.mark.parametrize("dims", [[], [3, 4], [-1]], ids=str)
def test_another_model_s_configuration_is_refused(dims: list[int]) -> None:
    assert model_shape(config(RECOMMEND, session_items=dims), RECOMMEND) == Failure(
        "FAILED_PRECONDITION",
        "the model 'recommend' does not keep tritonrec's contract: it lacks session_items",
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
