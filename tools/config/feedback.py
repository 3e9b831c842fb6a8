"""The sections of a build's TOML file about what users do while a release is served."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from tritonrec_client.contract import Event

from tools.config.training import Section

EventName = Literal["view", "click", "purchase", "skip"]


class FeedbackConfig(Section):
    """[feedback]: what a build takes from the event log."""

    learn_from: tuple[EventName, ...] = Field(
        ("click", "purchase"), min_length=1, description="the types of event to learn from"
    )

    @property
    def kinds(self) -> frozenset[Event]:
        """`learn_from` as the contract's codes."""
        return frozenset(Event[name.upper()] for name in self.learn_from)


class RefreshConfig(Section):
    """[refresh]: how `--refresh` goes on training where the active release stopped."""

    epochs: int = Field(3, ge=1, le=1000, description="passes over the histories with new events")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    replay: float = Field(
        1.0, ge=0, le=100, description="users without new events trained along, for each one with some"
    )
    requests: int = Field(
        1024, ge=16, le=1_000_000, description="training requests that a smaller ranker is made from, at most"
    )


class PrivacyConfig(Section):
    """[privacy]: how people are named in the store, the log and the release."""

    pseudonyms: bool = Field(
        False,
        description="users' ids are replaced by a hash under the key in TRITONREC_PSEUDONYM_KEY, as clients"
        " with that key do",
    )
