from __future__ import annotations

import random

import pytest

from tools.load.search import search


class Server:
    """Holds rates up to `capacity`; probes take `seconds` of its clock and lie with a chance of `noise`."""

    def __init__(self, capacity: float, seconds: float = 10.0, noise: float = 0.0) -> None:
        self.capacity, self.seconds, self.noise = capacity, seconds, noise
        self.now = 0.0
        self.rates: list[float] = []
        self._random = random.Random(1)

    def clock(self) -> float:
        return self.now

    def probe(self, rate: float) -> bool:
        self.now += self.seconds
        self.rates.append(rate)
        return (rate <= self.capacity) != (self._random.random() < self.noise)


@pytest.mark.parametrize("capacity", [3.0, 47.0, 50.0, 180.0, 4321.0])
def test_the_capacity_is_enclosed_to_the_stated_resolution(capacity: float) -> None:
    found = search(Server(capacity).probe, start=50, resolution=0.05)
    assert found.missed is not None
    assert found.held <= capacity < found.missed
    assert found.complete
    assert found.resolution is not None
    assert found.resolution <= 0.05


@pytest.mark.parametrize("capacity", [3.0, 48.0, 51.0, 70.0, 4321.0])
def test_near_the_answer_short_strides_enclose_it_with_few_probes(capacity: float) -> None:
    server = Server(capacity)
    found = search(server.probe, start=50, stride=1.1, resolution=0.05, repeats=1)
    assert found.missed is not None
    assert found.held <= capacity < found.missed <= found.held * 1.05
    if 50 / 1.1 <= capacity < 50 * 1.1:
        assert len(server.rates) == 3


def test_a_rate_is_judged_by_the_majority_of_its_probes() -> None:
    answers = iter([True, False, True, False, True, False])
    found = search(lambda rate: next(answers), start=50, most=100, resolution=2)
    assert [(probe.rate, probe.holds) for probe in found.probes] == [
        *((50, True), (50, False), (50, True)),
        *((100, False), (100, True), (100, False)),
    ]
    assert (found.held, found.missed) == (50, 100)


def test_no_more_probes_are_made_than_decide() -> None:
    server = Server(60)
    search(server.probe, start=50, resolution=1)
    assert server.rates == [50, 50, 100, 100]


def test_a_few_disturbed_probes_do_not_lead_astray() -> None:
    found = search(Server(500, noise=0.05).probe, start=50, resolution=0.1, repeats=5)
    assert 500 / 1.3 < found.held < 500 * 1.3


def test_the_search_ends_in_time_and_says_that_it_is_not_complete() -> None:
    server = Server(333)
    found = search(server.probe, start=50, seconds=75, probe_seconds=10, repeats=1, clock=server.clock)
    assert server.now <= 75
    assert not found.complete
    assert found.missed is not None
    assert found.held <= 333 < found.missed


def test_a_server_that_holds_everything_is_asked_up_to_the_highest_rate() -> None:
    found = search(Server(1e9).probe, start=50, most=300, repeats=1)
    assert (found.held, found.missed, found.resolution, found.complete) == (300, None, None, True)


def test_a_server_that_holds_nothing_has_no_capacity() -> None:
    found = search(Server(0).probe, start=50, repeats=1)
    assert found.held == 0
    assert not found.complete


@pytest.mark.parametrize(
    "options",
    [{"start": 0}, {"start": 1, "resolution": 0}, {"start": 1, "repeats": 2}, {"start": 1, "repeats": 0}],
)
def test_numbers_that_cannot_be_meant_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(reversed(options))):
        search(lambda rate: True, **options)  # type: ignore[arg-type]
