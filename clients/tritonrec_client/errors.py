"""What can go wrong with a call, each error saying what to do about it.

Every class passes its own fields to ``Exception``, so that errors survive pickling between processes.
"""

from __future__ import annotations


class RecommendError(Exception):
    """The base of every error that this client raises about a call."""


class InvalidRequest(RecommendError, ValueError):
    """A request that cannot be answered as it is; sending it again does not help.

    `field` names what is wrong, `found` says what it is, `allowed` what it may be. Most are raised before
    anything is sent; the server's own refusals of the same form arrive as this class, too.
    """

    def __init__(self, field: str, found: str, allowed: str) -> None:
        super().__init__(field, found, allowed)
        self.field = field
        self.found = found
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.field}: found {self.found}; allowed is {self.allowed}"


class DeadlineExceeded(RecommendError, TimeoutError):
    """No answer within the call's total time, retries included."""

    def __init__(self, total: float, attempts: int, words: str) -> None:
        super().__init__(total, attempts, words)
        self.total = total
        self.attempts = attempts
        self.words = words

    def __str__(self) -> str:
        return (
            f"no answer within {self.total:g} s ({_times(self.attempts)}, last: {self.words}); "
            "allow more time with Timeout(total=…) or look at the servers' load"
        )


class Unavailable(RecommendError, ConnectionError):
    """No server took the request, after every attempt that was allowed or fitted into the deadline."""

    def __init__(self, addresses: tuple[str, ...], attempts: int, words: str) -> None:
        super().__init__(addresses, attempts, words)
        self.addresses = addresses
        self.attempts = attempts
        self.words = words

    def __str__(self) -> str:
        return (
            f"no server took the request at {', '.join(self.addresses)} ({_times(self.attempts)}, "
            f"last: {self.words}); check that Triton runs there, serves gRPC and has the model loaded"
        )


class ServerError(RecommendError):
    """The server answered with an error that another attempt would not cure.

    `status` is gRPC's name of it, for example ``INTERNAL``; `words` are the server's own.
    """

    def __init__(self, address: str, status: str, words: str) -> None:
        super().__init__(address, status, words)
        self.address = address
        self.status = status
        self.words = words

    def __str__(self) -> str:
        return f"{self.address} answered {self.status}: {self.words}"


class MixedReleases(RecommendError):
    """The stages behind one page belong to different releases, so the page has no one release."""

    def __init__(self, releases: dict[str, str]) -> None:
        super().__init__(releases)
        self.releases = releases

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {release}" for stage, release in self.releases.items())
        return f"the page mixes releases: {stages}; load a release's stages through its own ensemble"


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"
