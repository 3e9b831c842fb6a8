"""One probe at one rate, and how the capacity is found and found again."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from transports import Peer

from tools.load.generator import Generator
from tools.load.recording import RECOMMEND, Tally
from tools.load.schedule import Step, poisson
from tools.load.slo import Slo
from tools.load.visitors import Audience

IN_FLIGHT = 256
"""More unanswered requests than this end a probe: at p99 ≤ 50 ms they would mean 5,000 requests/s."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which the generator's threads must let each other run, as in tests/load/locustfile.py."""


@dataclass(frozen=True, slots=True)
class Shot:
    """What one side did at one rate."""

    rate: float
    holds: bool
    complete: bool
    """False where the probe ended early, because too many requests were unanswered."""
    p50: float
    p99: float
    """Milliseconds from the intended start; what failed or was skipped counts as slower than every answer."""
    arrivals: int
    failed: int
    skipped: int
    problems: dict[str, str]
    server_cores: float
    """CPU of the side's processes, seconds per second."""
    others_cores: float
    """What the machine used besides the side and the generator."""
    generator_cores: float
    generator_ms: float
    """Milliseconds of the generator's CPU per request."""
    sent_late_p99: float
    """Milliseconds after their intended start by which 99 % of the requests had left the generator."""

    def figures(self) -> dict[str, Any]:
        """For the JSON; milliseconds that are none are None."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {name: rounded(value) if isinstance(value, float) else value for name, value in values.items()}


def rounded(value: float, digits: int = 4) -> float | None:
    """`value` for a JSON; None where it is infinite or nothing."""
    return round(value, digits) if abs(value) < float("inf") else None


@contextmanager
def quick_switches() -> Iterator[None]:
    """Python's threads take turns often, so that what is due is sent."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def shoot(
    transport: Peer,
    server_cpu: Callable[[], float],
    audience: Audience,
    session: int,
    slo: Slo,
    rate: float,
    *,
    seconds: float,
    warm_up: float,
    seed: int,
) -> Shot:
    """Offer `rate` requests/s for `seconds`, after a `warm_up` that does not count; wait for the answers.

    `server_cpu` says how many seconds of CPU the side has used so far.
    """
    schedule = poisson([Step(rate, warm_up, counted=False), Step(rate, seconds)], seed)
    transport.expect(audience.draw(len(schedule), session, seed))
    generator = Generator(transport, schedule, in_flight=IN_FLIGHT)
    thread = threading.Thread(target=generator.run, daemon=True)
    server, machine = server_cpu(), machine_cpu()
    cpu, begin = time.process_time(), time.perf_counter()
    complete = True
    with quick_switches():
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if any(tally.skipped for step in generator.recording.tallies for tally in list(step.values())):
                complete = False
                generator.stop()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - begin
    server, machine = server_cpu() - server, machine_cpu() - machine
    recording = generator.recording
    totals = recording.totals()
    tally = totals.get(RECOMMEND, Tally())
    missing = tally.failed + tally.skipped
    return Shot(
        rate=rate,
        holds=complete and all(verdict.holds for verdict in slo.judge(totals)),
        complete=complete,
        p50=tally.latency.percentile(50, missing),
        p99=tally.latency.percentile(99, missing),
        arrivals=tally.arrivals,
        failed=tally.failed,
        skipped=tally.skipped,
        problems=dict(recording.problems),
        server_cores=server / wall,
        others_cores=max(0.0, machine - server - cpu) / wall,
        generator_cores=cpu / wall,
        generator_ms=1000 * cpu / max(1, len(recording.sent_late)),
        sent_late_p99=recording.sent_late.percentile(99),
    )


def machine_cpu() -> float:
    """Seconds of CPU that the whole machine has used."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def capacity_near(
    probe: Callable[[float], bool], near: float, *, step: float = 0.05, most: int = 6
) -> tuple[float, bool]:
    """The highest rate that holds, looked for from `near` on; False where `most` probes did not enclose it.

    Upwards while rates hold, else downwards until one does, by `step` at first and by twice as much each
    time: an up-and-down search (Dixon and Mood, "A Method for Obtaining and Analyzing Sensitivity Data",
    1948) that starts where the truth is expected, and mostly ends after two probes. 0 where no rate held.
    """
    rate, held = near, 0.0
    upwards = probe(rate)
    if upwards:
        held = rate
    for turn in range(most - 1):
        factor = (1 + step) ** (2**turn)
        rate = rate * factor if upwards else rate / factor
        holds = probe(rate)
        if holds:
            held = rate
        if holds != upwards:
            return held, True
    return held, False
