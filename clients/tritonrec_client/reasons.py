"""Why an item is on a page, in words that can be shown to the person who sees it."""

from __future__ import annotations

from tritonrec_client.contract import FoundBy, Reason
from tritonrec_client.page import Recommendation

REASON_WORDS: dict[int, str] = {
    Reason.HISTORY: "from the user's history",
    Reason.POPULAR: "popular with newcomers",
    Reason.VARIETY: "for variety",
    Reason.PINNED: "pinned by a rule",
    Reason.EXPLORED: "drawn to learn from it",
}
"""What is said where no item of the history can be named."""

CHANNEL_WORDS: dict[int, str] = {
    FoundBy.TRANSFORMER: "because of {title}",
    FoundBy.GRU: "because of {title}",
    FoundBy.LSTM: "because of {title}",
    FoundBy.MIND: "for whoever likes {title}",
    FoundBy.TWO_TOWERS: "because of {title}",
    FoundBy.ITEM_KNN: "goes with {title}",
    FoundBy.EASE: "goes with {title}",
    FoundBy.USER_KNN: "users like this one, who met {title}",
    FoundBy.CONTENT: "similar to {title}",
    FoundBy.POPULARITY: "popular just now",
}
"""By the kind of channel that found the item; the title is that of the nearest item of the history."""


def describe(place: Recommendation, title: str | None = None) -> str:
    """Why `place` is on its page; `title` is what people call the item `place.because`, if it is known."""
    said = REASON_WORDS.get(place.reason, f"reason {int(place.reason)}")
    if place.reason not in (Reason.HISTORY, Reason.VARIETY) or place.because is None:
        return said
    words = CHANNEL_WORDS.get(place.channel)
    if words is None or ("{title}" in words and title is None):
        return said
    words = words.format(title=title)
    return f"{said}: {words}" if place.reason == Reason.VARIETY else words
