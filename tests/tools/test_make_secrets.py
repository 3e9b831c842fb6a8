"""Secrets that nobody supplied, against an HTTP server that keeps and refuses them as the API does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from secrets_api import SecretsApi

from tools import make_secrets

SECRETS = "/api/v1/namespaces/tritonrec/secrets"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsApi]:
    with SecretsApi() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server


def run(*secrets: str) -> int:
    return make_secrets.main(["--namespace=tritonrec", *(f"--secret={each}" for each in secrets)])


def test_secrets_are_made_with_values_that_nobody_can_guess(
    api: SecretsApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tritonrec-redis/password", "tritonrec-control/key") == make_secrets.OK

    password = api.secrets["tritonrec-redis"]["stringData"]["password"]
    key = api.secrets["tritonrec-control"]["stringData"]["key"]
    assert len(password) == len(key) == 2 * make_secrets.BYTES
    assert password != key
    assert password not in capsys.readouterr().out


def test_a_secret_that_was_supplied_stays_and_is_never_read(
    api: SecretsApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.secrets["tritonrec-redis"] = supplied = {"stringData": {"password": "mine"}}

    assert run("tritonrec-redis/password") == make_secrets.OK
    assert api.secrets["tritonrec-redis"] is supplied
    assert "stays as it is" in capsys.readouterr().out
    assert api.asked == [f"POST {SECRETS}"]


def test_running_again_changes_nothing(api: SecretsApi) -> None:
    run("tritonrec-control/key")
    first = api.secrets["tritonrec-control"]
    run("tritonrec-control/key")

    assert api.secrets["tritonrec-control"] is first


def test_a_cluster_that_refuses_is_told(api: SecretsApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.refusal = 403

    assert run("tritonrec-control/key") == make_secrets.FAILED
    assert "no permission: secrets is forbidden" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["tritonrec-redis", "Tritonrec/key", "tritonrec/", "/key"])
def test_what_names_no_secret_and_key_is_bad_usage(text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(text)

    assert ended.value.code == 2
