from __future__ import annotations

import traceback

import pytest

from python_backend.stores import open_store


@pytest.mark.parametrize("url", ["mysql://host/0", "/var/lib/store", "", "LMDB:///x", "lmdb:/x"])
def test_another_scheme_is_refused_with_those_that_are_allowed(url: str) -> None:
    with pytest.raises(ValueError, match="allowed are lmdb://, redis:// and rediss://"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("lmdb://", "no path"),
        ("lmdb:///x?readonly=maybe", "readonly=maybe"),
        ("lmdb:///x?mode=fast", "mode=fast"),
        ("redis://", "expected redis://"),
        ("redis://host:port", "expected redis://"),
        ("redis://host:99999", "expected redis://"),
        ("redis://host/first", "expected redis://"),
        ("redis://host/0?socket_timeout=9", "unknown option 'socket_timeout'; allowed are prefix"),
        ("redis://host/0?ssl_ca_certs=x", "unknown option 'ssl_ca_certs'"),
        ("rediss://host/0?ssl_wishes=x", "unknown option 'ssl_wishes'; allowed are prefix, ssl_ca_certs"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_when_it_is_read(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_store(url)


@pytest.mark.parametrize(
    "password", ["se/cret", "se?cret", "se#cret", "se/c@cret", "se[cret", "1?cret", "1#cret", "1/cret"]
)
def test_a_password_that_is_not_percent_encoded_is_not_shown(password: str) -> None:
    with pytest.raises(ValueError, match="percent-encoded") as refused:
        open_store(f"redis://user:{password}@host:6379/0")
    assert "cret" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        open_store("redis://host", timeout=timeout)


@pytest.mark.parametrize(
    "url", ["lmdb:///nowhere/at/all", "redis://127.0.0.1:1", "rediss://user:x@127.0.0.1:1/2"]
)
def test_opening_does_not_need_the_store(url: str) -> None:
    with open_store(url) as store:
        assert "user:x" not in store.location
