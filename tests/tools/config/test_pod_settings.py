"""The settings of a pod, from its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.config.build import ConfigError
from tools.config.pod import PodSettings

NEEDED = {"TRITONREC_STORE": "redis://redis:6379/0", "TRITONREC_CONTROL_KEY": "0123456789abcdef"}


def test_two_settings_are_enough() -> None:
    settings = PodSettings.from_environment(NEEDED)

    assert (settings.profile, settings.tls, settings.grace_seconds) == ("local", "off", 120)
    assert (settings.grpc_port, settings.http_port, settings.metrics_port) == (8001, 8000, 8002)


def test_an_empty_variable_is_none() -> None:
    settings = PodSettings.from_environment({**NEEDED, "TRITONREC_RULES": "", "TRITONREC_TLS": ""})

    assert settings.rules is None
    assert settings.tls == "off"


def test_other_variables_do_not_matter() -> None:
    environment = {**NEEDED, "TRITONREC_S3_BUCKET": "releases", "PATH": "/bin", "TRITONREC_TLS_DIR": "/tls"}

    assert PodSettings.from_environment(environment).tls_dir == Path("/tls")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TRITONREC_STORE", "mysql://db", "TRITONREC_STORE: found 'mysql://db'; allowed: "),
        ("TRITONREC_PROFILE", "fast", "TRITONREC_PROFILE: found 'fast'; allowed: 'local'"),
        (
            "TRITONREC_GRACE_SECONDS",
            "7",
            "TRITONREC_GRACE_SECONDS: found '7'; allowed: greater than or equal to 8",
        ),
        ("TRITONREC_TLS", "on", "TRITONREC_TLS: found 'on'"),
        ("TRITONREC_TRACE_URL", "collector:4318", "TRITONREC_TRACE_URL: found 'collector:4318'"),
        ("TRITONREC_GRPC_PORT", "70000", "TRITONREC_GRPC_PORT: found '70000'"),
    ],
)
def test_what_cannot_be_meant_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as problem:
        PodSettings.from_environment({**NEEDED, variable: value})

    assert message in str(problem.value)


def test_all_problems_are_told_and_no_key_is_shown() -> None:
    with pytest.raises(ConfigError) as problem:
        PodSettings.from_environment({"TRITONREC_CONTROL_KEY": "short, but secret"})

    assert str(problem.value).splitlines() == [
        "TRITONREC_STORE: is missing and has no default",
        "TRITONREC_CONTROL_KEY: found what is not to be shown; allowed: "
        "String should match pattern '^[A-Za-z0-9._~+/=-]{16,}$'",
    ]
