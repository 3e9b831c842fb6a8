"""The part of a cluster's API that keeps Secrets: an HTTP server that answers as the real one does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


class SecretsApi(ThreadingHTTPServer):
    """Knows the Secrets of one namespace, for a with block; `refusal` is a status that it answers instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.secrets: dict[str, Any] = {}
        self.asked: list[str] = []
        self.refusal: int | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig for it, written into `folder` (as JSON, which is YAML)."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.server_address[1]}"}}
            ],
            "users": [{"name": "job", "user": {"token": "x"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "job"}}],
            "current-context": "here",
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path


class _Requests(BaseHTTPRequestHandler):
    server: SecretsApi

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
