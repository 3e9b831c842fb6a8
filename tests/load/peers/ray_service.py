"""Ray Serve, one replica per core, in a Ray of its own on this machine.

    python ray_service.py documented 8000

`Documented` follows the getting-started deployment, whose `__call__` reads the request's JSON and calls the
model (https://docs.ray.io/en/latest/serve/getting_started.html), with as many replicas as there are cores.

`Tuned` follows https://docs.ray.io/en/latest/serve/advanced-guides/performance.html and dyn-req-batch.html
there: `@serve.batch` takes what waits, without waiting for more; replicas may hold more than five requests at
a time; no access log; and, by environment variables that its launch sets, no threads between the event loop
and the model (RAY_SERVE_THROUGHPUT_OPTIMIZED=1) and HAProxy instead of a proxy in Python
(RAY_SERVE_ENABLE_HA_PROXY=1), which halves the CPU per request:
https://docs.ray.io/en/latest/kuberay/user-guides/serve-high-throughput.html.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import orjson
import ray
from ray import serve
from recommender import Query, Recommender
from starlette.requests import Request
from starlette.responses import Response

CORES = os.cpu_count() or 1
OBJECT_STORE = 200 * 2**20
"""Bytes; no request passes through it."""

HAPROXY_FILES = {
    "CONFIG_FILE_LOC": "haproxy.cfg",
    "SOCKET_PATH": "admin.sock",
    "METRICS_SOCKET_PATH": "metrics.sock",
    "SERVER_STATE_BASE": "",
    "SERVER_STATE_FILE": "server-state",
}
"""Which would lie in /tmp and stay there."""


def query_of(body: dict[str, Any]) -> Query:
    return body["user_id"], body["session_items"], body["diversity"]


@serve.deployment(num_replicas=CORES)
class Documented:
    def __init__(self) -> None:
        self.recommender = Recommender.from_environment()

    async def __call__(self, request: Request) -> dict[str, Any]:
        return self.recommender.plain_pages([query_of(await request.json())])[0]


@serve.deployment(num_replicas=CORES, max_ongoing_requests=256, logging_config={"enable_access_log": False})
class Tuned:
    def __init__(self) -> None:
        self.recommender = Recommender.from_environment()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0)
    async def pages(self, queries: list[Query]) -> list[dict[str, Any]]:
        return self.recommender.pages(queries)

    async def __call__(self, request: Request) -> Response:
        page = await self.pages(query_of(orjson.loads(await request.body())))
        return Response(orjson.dumps(page, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def main(style: str, port: int) -> None:
    # As long as a socket's name may be, a build folder's name may already be too long for Ray.
    with tempfile.TemporaryDirectory(prefix="peers-ray-", ignore_cleanup_errors=True) as folder:
        # Ray asks for a token, and would otherwise make one in the user's home and leave it there.
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(16), encoding="ascii")
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        os.environ |= {
            f"RAY_SERVE_HAPROXY_{name}": f"{folder}/{file}" for name, file in HAPROXY_FILES.items()
        }
        ray.init(
            num_cpus=CORES,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            _temp_dir=folder,
            log_to_driver=False,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run({"documented": Documented, "tuned": Tuned}[style].bind(), route_prefix="/recommend")
            stopped = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stopped.set())
            stopped.wait()
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
