"""What leads clients to pods: a Service that picks one per connection, and a name that leads to all of them.

Both go by the list of ready pods, and both are late to hear of a change, as in a cluster. What was connected
stays connected.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Sequence

Endpoint = tuple[str, int]
"""A pod's address and port."""


class Endpoints:
    """The ready pods."""

    def __init__(self, pods: Sequence[Endpoint]) -> None:
        self._pods = tuple(pods)

    def __call__(self) -> tuple[Endpoint, ...]:
        return self._pods

    def change(self, pods: Sequence[Endpoint], *, after: float) -> None:
        """Let everybody know of `pods` in `after` seconds."""
        threading.Timer(after, lambda: setattr(self, "_pods", tuple(pods))).start()


class ClusterIP:
    """A port that leads each new connection to the next of the ready pods, as kube-proxy does."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._turn = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        _in_background(self._accept)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            here, _ = self._listener.accept()
            pods = self._endpoints()
            there = socket.create_connection(pods[next(self._turn) % len(pods)])
            for one, other in ((here, there), (there, here)):
                _in_background(lambda one=one, other=other: _relay(one, other))


class NameServer:
    """DNS over UDP: every name leads to the addresses of all ready pods, for no time at all."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        _in_background(self._answer)

    def close(self) -> None:
        self._socket.close()

    def _answer(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(512)
            end = query.index(b"\0", 12) + 5  # name, type, class
            wanted = struct.unpack(">H", query[end - 4 : end - 2])[0]
            # An address record only where one is asked for; no pod has an IPv6 address.
            pods = self._endpoints() if wanted == 1 else ()
            answer = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(pods), 0, 0) + query[12:end]
            for host, _ in pods:
                answer += struct.pack(">HHHLH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(host)
            self._socket.sendto(answer, sender)


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
            each.close()


def _in_background(work: Callable[[], object]) -> None:
    """Until its socket is closed."""

    def run() -> None:
        with contextlib.suppress(OSError):
            work()

    threading.Thread(target=run, daemon=True).start()
