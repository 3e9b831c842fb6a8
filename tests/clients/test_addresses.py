"""Whose turn it is."""

from __future__ import annotations

import pytest
from tritonrec_client.addresses import Addresses, parse_addresses


class Clock:
    """Time that passes when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(addresses: Addresses, count: int) -> str:
    return "".join(addresses.take() for _ in range(count))


def test_addresses_take_turns() -> None:
    assert taken(Addresses(["a", "b", "c"], 2.0, Clock()), 7) == "abcabca"


def test_an_address_that_failed_is_passed_over_and_the_others_share_its_turns_evenly() -> None:
    addresses = Addresses(["a", "b", "c"], 2.0, Clock())
    addresses.failed("a")
    assert taken(addresses, 6) == "bcbcbc"


def test_after_a_while_one_call_tries_it_again_and_the_others_wait_for_its_success() -> None:
    clock = Clock()
    addresses = Addresses(["a", "b"], 2.0, clock)
    addresses.failed("a")
    assert taken(addresses, 2) == "bb"
    clock.now += 2.5
    assert taken(addresses, 4) == "abbb"
    addresses.succeeded("a")
    assert taken(addresses, 4) == "abab"


def test_with_every_address_set_aside_the_one_that_failed_first_is_taken() -> None:
    clock = Clock()
    addresses = Addresses(["a", "b"], 2.0, clock)
    addresses.failed("b")
    clock.now += 1
    addresses.failed("a")
    assert addresses.take() == "b"


def test_it_knows_whether_somebody_else_is_left_to_ask() -> None:
    addresses = Addresses(["a", "b"], 2.0, Clock())
    assert addresses.has_other(["a"])
    assert not addresses.has_other(["a", "b"])
    addresses.failed("b")
    assert not addresses.has_other(["a"])


def test_an_address_given_twice_counts_once() -> None:
    assert Addresses(["a", "b", "a"], 2.0, Clock()).all == ("a", "b")


def test_addresses_come_as_a_list_or_separated_by_commas() -> None:
    assert parse_addresses("one:8001, two:8002") == ("one:8001", "two:8002")
    assert parse_addresses(["[::1]:8001"]) == ("[::1]:8001",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":8001",
        "host:0",
        "host:65536",
        "host:80a",
        "http://host:8001",
        "a:1,,b:2",
        "::1:8001",
    ],
)
def test_what_is_not_host_and_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not host:port; write for example localhost:8001"):
        parse_addresses(text)


def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no address"):
        parse_addresses([])
