"""What Triton is told in a pod."""

from __future__ import annotations

import pytest

from tools.config.pod import PodSettings
from tools.serving.pod import Drain, arguments_of, channel_of

NEEDED = {"TRITONREC_STORE": "redis://redis:6379/0", "TRITONREC_CONTROL_KEY": "0123456789abcdef"}


def settings(**more: str) -> PodSettings:
    return PodSettings.from_environment(
        {**NEEDED, **{f"TRITONREC_{name}": value for name, value in more.items()}}
    )


def test_whatever_changes_the_server_needs_the_key() -> None:
    told = arguments_of(settings())
    restricted = "model-repository,shared-memory,trace,logging:tritonrec-key=0123456789abcdef"

    assert f"--grpc-restricted-protocol={restricted}" in told
    assert f"--http-restricted-api={restricted}" in told


def test_the_end_of_a_pod_is_divided_by_one_number() -> None:
    drain = Drain(120)

    assert (drain.leave, drain.age, drain.exit_timeout) == (60, 15.0, 20)
    assert "--grpc-max-connection-age=15000" in arguments_of(settings(GRACE_SECONDS="120"))


def test_nothing_is_encrypted_traced_or_measured_unless_it_is_asked_for() -> None:
    told = " ".join(arguments_of(settings()))

    assert not any(word in told for word in ("ssl", "trace-config", "gpu"))
    assert channel_of(settings()) == {}


@pytest.mark.parametrize("tls", ["server", "mutual"])
def test_an_encrypted_server_offers_nothing_in_the_clear(tls: str) -> None:
    encrypted = settings(TLS=tls, TLS_DIR="/tls", TLS_NAME="tritonrec.svc")
    told, channel = arguments_of(encrypted), channel_of(encrypted)

    assert {
        "--grpc-use-ssl=true",
        "--grpc-server-cert=/tls/tls.crt",
        "--grpc-server-key=/tls/tls.key",
    } <= set(told)
    assert "--allow-http=false" in told
    assert ("--grpc-use-ssl-mutual=true" in told) == (tls == "mutual")
    assert channel["root_certificates"] == "/tls/ca.crt"
    assert ("private_key" in channel) == (tls == "mutual")
    assert ("grpc.ssl_target_name_override", "tritonrec.svc") in channel["channel_args"]


def test_http_is_for_the_pod_itself_unless_it_is_asked_for() -> None:
    assert "--http-address=127.0.0.1" in arguments_of(settings())
    assert "--http-address=0.0.0.0" in arguments_of(settings(HTTP_HOST="0.0.0.0"))


def test_traces_go_where_they_are_asked_to() -> None:
    told = arguments_of(settings(TRACE_URL="http://otel:4318/v1/traces", TRACE_RATE="50"))

    assert "--trace-config=mode=opentelemetry" in told
    assert "--trace-config=rate=50" in told
    assert "--trace-config=opentelemetry,url=http://otel:4318/v1/traces" in told


def test_gpus_are_measured_where_there_are_some() -> None:
    assert "--allow-gpu-metrics=true" in arguments_of(settings(GPU_METRICS="true"))
