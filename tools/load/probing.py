"""A server at a rate for some seconds, and the rate that it holds: for programs that measure many of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tools.load.calls import Calls
from tools.load.generator import Generator
from tools.load.recording import RECOMMEND, Tally
from tools.load.schedule import Step, poisson
from tools.load.search import Capacity, search
from tools.load.slo import Slo
from tools.load.visitors import Audience

SWITCH_INTERVAL = 0.0005
"""Seconds after which Python's threads must let each other run, so that what is due is sent."""
STRIDE = 1.1
"""The first factor of a search that starts where the capacity is expected."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Seconds of one probe, of the load before it that does not count, and of a request's timeout."""

    probe: float = 4.0
    warm_up: float = 0.5
    timeout: float = 1.0


class Prober:
    """Offers load of pages by `audience` to servers, one after the other, and judges it by `slo`.

    Arrivals and visitors differ from probe to probe: no server must be lucky with one draw.
    """

    def __init__(self, audience: Audience, slo: Slo, windows: Windows, seed: int = 1) -> None:
        self.windows = windows
        self._audience = audience
        self._slo = slo
        self._seed = seed

    def offer(self, address: str, rate: float) -> dict[str, Tally]:
        """What became of `rate` requests per second at `address`, by kind. Raises NoServerError."""
        self._seed += 1
        windows = self.windows
        schedule = poisson(
            [Step(rate, windows.warm_up, counted=False), Step(rate, windows.probe)], self._seed
        )
        with Calls(address, timeout=windows.timeout, seed=self._seed) as calls:
            calls.expect(self._audience.draw(len(schedule), calls.session, self._seed))
            generator = Generator(calls, schedule)
            # In a thread: Ctrl-C in the middle of a call would leave gRPC's channel waiting for ever.
            with _quick_switches(), ThreadPoolExecutor(1) as pool:
                running = pool.submit(generator.run, windows.timeout + 5)
                try:
                    running.result()
                finally:
                    generator.stop()
        return generator.recording.totals()

    def holds(self, address: str, rate: float) -> bool:
        """Whether the server holds the objective at `rate`."""
        return all(verdict.holds for verdict in self._slo.judge(self.offer(address, rate)))

    def find(self, address: str, start: float) -> Capacity:
        """The capacity, from anywhere: by doubling or halving, roughly."""
        return search(lambda rate: self.holds(address, rate), start=start, resolution=0.15, repeats=1)

    def find_near(self, address: str, near: float) -> Capacity:
        """The capacity where it is expected `near` a rate, known to 5 %: mostly three or four probes."""
        return search(lambda rate: self.holds(address, rate), start=near, stride=STRIDE, repeats=1)

    def median_ms(self, address: str, rate: float) -> float:
        """The median latency at `rate`, in milliseconds."""
        tally = self.offer(address, rate).get(RECOMMEND, Tally())
        return tally.latency.percentile(50, tally.failed + tally.skipped)


@contextmanager
def _quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
