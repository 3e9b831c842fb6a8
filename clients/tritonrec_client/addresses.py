"""Addresses: whose turn it is, and who is passed over for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence


class Addresses:
    """Several servers taken in turn; one that failed is set aside while others are left.

    When its time is over, one call tries it again; the others keep away until that call succeeded. With
    every address set aside, the one whose time ends first is taken: there is always somebody to ask.
    Safe to share between threads.
    """

    def __init__(self, addresses: Sequence[str], set_aside: float, clock: Callable[[], float]) -> None:
        self.all = tuple(dict.fromkeys(addresses))
        self._set_aside = set_aside
        self._clock = clock
        self._turn = 0
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self) -> str:
        """The address for the next attempt."""
        with self._lock:
            now = self._clock()
            order = [(self._turn + step) % len(self.all) for step in range(len(self.all))]
            place = min(order, key=lambda place: self._wait(self.all[place], now))
            self._turn = (place + 1) % len(self.all)
            chosen = self.all[place]
            if chosen in self._until:
                self._until[chosen] = now + self._set_aside
            return chosen

    def failed(self, address: str) -> None:
        """Set `address` aside."""
        with self._lock:
            self._until[address] = self._clock() + self._set_aside

    def succeeded(self, address: str) -> None:
        """Let `address` take its turns again."""
        with self._lock:
            self._until.pop(address, None)

    def has_other(self, tried: Collection[str]) -> bool:
        """Whether an address is left that is neither in `tried` nor set aside."""
        with self._lock:
            now = self._clock()
            return any(address not in tried and not self._wait(address, now) for address in self.all)

    def _wait(self, address: str, now: float) -> float:
        return max(0.0, self._until.get(address, now) - now)


def parse_addresses(addresses: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses in a list or a comma-separated string, each ``host:port``.

    Raises ValueError for anything else. An IPv6 host stands in brackets: ``[::1]:8001``.
    """
    if isinstance(addresses, str):
        addresses = addresses.split(",")
    parsed = tuple(address.strip() for address in addresses)
    if not parsed:
        raise ValueError("no address is given; name at least one as host:port")
    for address in parsed:
        host, colon, port = address.rpartition(":")
        number = int(port) if port.isascii() and port.isdigit() else 0
        bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
        if not (colon and host and 1 <= number <= 65535) or "/" in address or bare_ipv6:
            raise ValueError(
                f"the address {address!r} is not host:port; write for example localhost:8001 (Triton's gRPC "
                "port), without a scheme"
            )
    return parsed
