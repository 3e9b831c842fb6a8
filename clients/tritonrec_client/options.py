"""How a client behaves: its time limits, its retries, its connections. All immutable, all in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeout:
    """How long a call may take.

    Raises ValueError for anything but finite numbers above 0.
    """

    total: float = 1.0
    """From the call to its result, every retry and pause included."""
    attempt: float | None = None
    """The most that one attempt may take of it, so that a server that hangs leaves time for another.
    None gives an attempt all that is left."""

    def __post_init__(self) -> None:
        _above_zero("total", self.total)
        if self.attempt is not None:
            _above_zero("attempt", self.attempt)

    @classmethod
    def of(cls, value: Timeout | float) -> Timeout:
        """`value` itself, or a total of that many seconds."""
        return value if isinstance(value, Timeout) else cls(total=value)


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed attempt is followed by another.

    Repeating is safe. Recommending changes nothing. All attempts to record an event bear the same event id,
    and the server writes an event with an id that it knows no second time; forgetting a user twice is
    forgetting the user.

    An attempt that ran into `Timeout.attempt` counts as a failure that may be repeated. Where an address
    is left that did not just fail, it is tried at once; otherwise the pause before attempt n + 1 is drawn
    between 0 and ``min(longest, backoff × 2^(n − 1))`` ("full jitter": Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).
    """

    attempts: int = 3
    """How often at most, the first attempt included; 1 never repeats."""
    backoff: float = 0.02
    """The first pause's upper bound."""
    longest: float = 0.5
    """Every pause's upper bound."""
    jitter: bool = True
    """Whether pauses are drawn; without, each is its upper bound."""
    set_aside: float = 2.0
    """How long an address that failed is passed over while others are left."""
    statuses: frozenset[str] = frozenset({"UNAVAILABLE"})
    """The gRPC statuses worth repeating; add ``RESOURCE_EXHAUSTED`` where a proxy limits rates."""

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts!r}; it must be an integer of at least 1")
        for name in ("backoff", "longest", "set_aside"):
            value = getattr(self, name)
            if not (_is_number(value) and value >= 0):
                raise ValueError(f"{name} is {value!r}; it must be a finite number of seconds, 0 or above")

    def pause(self, failures: int, draw: float) -> float:
        """Seconds to wait after `failures` (1 or more) failures; `draw` is uniform in [0, 1)."""
        # The exponent is capped because 2.0**1024 overflows; `longest` is reached long before.
        bound = min(self.longest, self.backoff * 2.0 ** min(failures - 1, 64))
        return bound * draw if self.jitter else bound


@dataclass(frozen=True, slots=True)
class Keepalive:
    """How a connection finds out that the other side is gone.

    Pings are sent only while a call waits for its answer. Triton ends connections that are pinged without
    data more often than every 5 minutes, so leave `without_calls` off unless the server was started with
    a smaller ``--grpc-http2-min-recv-ping-interval-without-data`` and permits them.
    """

    interval: float = 30.0
    """How long nothing must have been heard before a ping is sent."""
    timeout: float = 10.0
    """How long the answer to a ping may take before the connection counts as lost."""
    without_calls: bool = False
    """Whether idle connections are pinged, too."""

    def __post_init__(self) -> None:
        _above_zero("interval", self.interval)
        _above_zero("timeout", self.timeout)


@dataclass(frozen=True, slots=True)
class Tls:
    """Encrypted connections. Each field is the path of a PEM file; None takes gRPC's default."""

    root_certificates: str | None = None
    private_key: str | None = None
    certificate_chain: str | None = None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _above_zero(name: str, value: float) -> None:
    if not (_is_number(value) and value > 0):
        raise ValueError(f"{name} is {value!r}; it must be a finite number of seconds above 0")


DEFAULT_TIMEOUT = Timeout()
DEFAULT_RETRY = Retry()
DEFAULT_KEEPALIVE = Keepalive()
