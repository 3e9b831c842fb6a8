"""Secrets that nobody supplied, against an HTTP server that keeps and refuses them as the API does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tools import make_secrets

SECRETS = "/api/v1/namespaces/tritonrec/secrets"


class Api(ThreadingHTTPServer):
    """Knows the Secrets of one namespace; `refusal` is a status that it answers instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.secrets: dict[str, Any] = {}
        self.asked: list[str] = []
        self.refusal: int | None = None


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        self.server.asked.append(f"POST {self.path}")
        if self.server.refusal is not None:
            self._answer(self.server.refusal, f'secrets is forbidden: cannot create "{name}"')
        elif name in self.server.secrets:
            self._answer(409, f'secrets "{name}" already exists')
        else:
            self.server.secrets[name] = body
            self._answer(201, "", body)

    def _answer(self, status: int, message: str, body: Any = None) -> None:
        text = json.dumps(body or {"kind": "Status", "apiVersion": "v1", "message": message, "code": status})
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with Api() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "users": [{"name": "job", "user": {"token": "x"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "job"}}],
            "current-context": "here",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield server
        server.shutdown()


def run(*secrets: str) -> int:
    return make_secrets.main(["--namespace=tritonrec", *(f"--secret={each}" for each in secrets)])


def test_secrets_are_made_with_values_that_nobody_can_guess(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tritonrec-redis/password", "tritonrec-control/key") == make_secrets.OK

    password = api.secrets["tritonrec-redis"]["stringData"]["password"]
    key = api.secrets["tritonrec-control"]["stringData"]["key"]
    assert len(password) == len(key) == 2 * make_secrets.BYTES
    assert password != key
    assert password not in capsys.readouterr().out


def test_a_secret_that_was_supplied_stays_and_is_never_read(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.secrets["tritonrec-redis"] = supplied = {"stringData": {"password": "mine"}}

    assert run("tritonrec-redis/password") == make_secrets.OK
    assert api.secrets["tritonrec-redis"] is supplied
    assert "stays as it is" in capsys.readouterr().out
    assert api.asked == [f"POST {SECRETS}"]


def test_running_again_changes_nothing(api: Api) -> None:
    run("tritonrec-control/key")
    first = api.secrets["tritonrec-control"]
    run("tritonrec-control/key")

    assert api.secrets["tritonrec-control"] is first


def test_a_cluster_that_refuses_is_told(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.refusal = 403

    assert run("tritonrec-control/key") == make_secrets.FAILED
    assert "no permission: secrets is forbidden" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["tritonrec-redis", "Tritonrec/key", "tritonrec/", "/key"])
def test_what_names_no_secret_and_key_is_bad_usage(text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(text)

    assert ended.value.code == 2
