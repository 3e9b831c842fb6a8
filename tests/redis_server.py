"""A real Redis server of the tests' own, which can be killed and started again on its port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
"""Settings under which everything that was answered is on disk."""


class RedisServer:
    def __init__(
        self,
        folder: Path,
        *,
        password: str = "",
        tls: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` are lines of redis.conf; they may be changed between two starts."""
        self._folder = folder
        self.settings = dict(settings or {})
        self._password = password
        self._tls = tls
        self.certificate = folder / "certificate.pem"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        tls = {"ssl": True, "ssl_ca_certs": str(self.certificate)} if self._tls else {}
        return redis.Redis(port=self.port, password=self._password or None, protocol=2, **tls)

    def start(self) -> None:
        command = [_program("redis-server"), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        if self._tls:
            key = self._folder / "key.pem"
            self._sign_certificate(key)
            command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            command += ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(key)]
        else:
            command += ["--port", str(self.port)]
        for name, value in self.settings.items():
            command += [f"--{name}", value]
        if self._password:
            command += ["--requirepass", self._password]
        log_path = self._folder / "redis.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.BusyLoadingError):
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        pytest.fail(f"redis-server did not start: {log_path.read_text()}", pytrace=False)
                    time.sleep(0.01)

    def _sign_certificate(self, key: Path) -> None:
        command = [_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        command += ["-keyout", str(key), "-out", str(self.certificate)]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        subprocess.run(command, check=True, capture_output=True)

    def kill(self) -> None:
        """SIGKILL, as when its machine dies."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stall(self) -> None:
        """Let every client wait: the kernel still accepts connections, nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not on the PATH; install it: apt-get install {name}", pytrace=False)
    return found
