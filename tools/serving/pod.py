"""How the Triton of a pod behaves: it ends without losing a request, and lets only some people change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools.config.pod import PodSettings

RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
"""What a caller must know the control key for: whatever changes the server."""
HEADER = "tritonrec-key"
"""The HTTP header with the key; over gRPC it is called ``triton-grpc-protocol-tritonrec-key``."""


@dataclass(frozen=True, slots=True)
class Drain:
    """What happens when while a pod ends, all from the seconds that it may take.

    The pod's Services forget it at once, but not everybody hears of it at once: a name server may lead to it
    for another half a minute, and a connection that is open stays with it. So the server goes on for
    `leave` seconds, in which connections come of `age` and clients connect to somebody else. Then SIGTERM:
    requests in flight get `exit_timeout`, and what is left is for the stages to end.

    `grace` is the pod's terminationGracePeriodSeconds.
    """

    grace: float

    @property
    def leave(self) -> int:
        """Seconds of the pod's preStop."""
        return int(self.grace) // 2

    @property
    def age(self) -> float:
        """Seconds that a connection lives; gRPC adds or takes up to a tenth."""
        return self.grace / 8

    @property
    def exit_timeout(self) -> int:
        """Seconds that Triton waits for requests in flight."""
        return max(1, int(self.grace) // 6)


def arguments_of(settings: PodSettings) -> list[str]:
    """What Triton is told on top of what `TritonServer` tells it."""
    drain = Drain(settings.grace_seconds)
    return [
        f"--grpc-max-connection-age={drain.age * 1000:.0f}",
        # An answer that is on its way when its connection is of age still comes.
        f"--grpc-max-connection-age-grace={drain.exit_timeout * 1000}",
        f"--grpc-restricted-protocol={','.join(RESTRICTED)}:{HEADER}={settings.control_key}",
        f"--http-restricted-api={','.join(RESTRICTED)}:{HEADER}={settings.control_key}",
        # The last one counts: `TritonServer` says no, and listens everywhere alike.
        *(("--allow-gpu-metrics=true",) if settings.gpu_metrics else ()),
        f"--http-address={settings.http_host}",
        *_tls(settings),
        *_tracing(settings),
    ]


def channel_of(settings: PodSettings) -> dict[str, Any]:
    """tritonclient's arguments for a connection to the pod's own server."""
    if settings.tls == "off":
        return {}
    folder = settings.tls_dir
    own = {"private_key": str(folder / "tls.key"), "certificate_chain": str(folder / "tls.crt")}
    return {
        "ssl": True,
        "root_certificates": str(folder / "ca.crt"),
        **(own if settings.tls == "mutual" else {}),
        "channel_args": [("grpc.ssl_target_name_override", settings.tls_name)],
    }


def _tls(settings: PodSettings) -> Sequence[str]:
    if settings.tls == "off":
        return ()
    folder = settings.tls_dir
    mutual = ("--grpc-use-ssl-mutual=true",) if settings.tls == "mutual" else ()
    return (
        "--grpc-use-ssl=true",
        *mutual,
        f"--grpc-server-cert={folder / 'tls.crt'}",
        f"--grpc-server-key={folder / 'tls.key'}",
        f"--grpc-root-cert={folder / 'ca.crt'}",
        # Triton's HTTP cannot be encrypted.
        "--allow-http=false",
    )


def _tracing(settings: PodSettings) -> Sequence[str]:
    if not settings.trace_url:
        return ()
    return (
        "--trace-config=mode=opentelemetry",
        f"--trace-config=rate={settings.trace_rate}",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=opentelemetry,url={settings.trace_url}",
        "--trace-config=opentelemetry,resource=service.name=tritonrec",
    )
