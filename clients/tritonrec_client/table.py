"""Pages for people: aligned tables, and codes in words."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from tritonrec_client.contract import FoundBy, Reason, Status
from tritonrec_client.items import Item
from tritonrec_client.page import Page, Recommendation
from tritonrec_client.reasons import describe

STATUS_WORDS: dict[Status, str] = {
    Status.ANONYMOUS_USER: "anonymous user",
    Status.UNKNOWN_USER: "unknown user",
    Status.UNKNOWN_SESSION_ITEM: "some session items are unknown",
    Status.STORE_UNAVAILABLE: "the feature store did not answer",
    Status.CORRUPT_RECORD: "the user's record is corrupt",
    Status.SEEN_TRUNCATED: "older items of the user may come back",
    Status.SHORT_PAGE: "fewer items than a page holds",
}

LONGEST_TITLE = 48


def describe_status(status: Status) -> str:
    """`status` in words: what was degraded, separated by commas."""
    words = [text for flag, text in STATUS_WORDS.items() if flag in status]
    unknown = int(status) & ~sum(STATUS_WORDS)
    if unknown:
        words.append(f"code {unknown}")
    return ", ".join(words) or "fully personal"


def describe_release(page: Page) -> str:
    """The page's release, or each stage's where they differ."""
    if page.is_consistent:
        return page.release
    return "MIXED: " + ", ".join(f"{stage} {release}" for stage, release in page.releases.items())


def format_page(page: Page, titles: Mapping[int, Item] | None = None, *, latency: float | None = None) -> str:
    """`page` as an aligned table of several lines, with its status and release below.

    `titles` come from `read_items`; an item that they lack is shown without a title. `latency` is the
    call's, in seconds.
    """
    rows = [
        (
            str(rank),
            *(() if titles is None else (_title(titles.get(place.item_id)),)),
            str(place.item_id) if titles is None else _key(titles.get(place.item_id), place.item_id),
            f"{place.score:.3f}",
            describe(place, _because(place, titles)),
        )
        for rank, place in enumerate(page.items, start=1)
    ]
    header = ("#", *(() if titles is None else ("title",)), "item", "score", "reason")
    numeric = {"#", "item", "score"}
    widths = [max(_width(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(
            _fill(cell, width, right=name in numeric)
            for cell, width, name in zip(row, widths, header, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]
    if not rows:
        lines.append("(no items)")
    footer = f"status: {describe_status(page.status)} · release: {describe_release(page)}"
    if page.arm is not None:
        footer += f" · arm: {page.arm}"
    if latency is not None:
        footer += f" · {latency * 1000:.1f} ms"
    return "\n".join([*lines, footer])


def page_to_json(
    page: Page, titles: Mapping[int, Item] | None = None, *, latency: float | None = None
) -> dict[str, Any]:
    """`page` as a JSON-ready dictionary.

    ``item_id`` is a string, because a 63-bit integer does not survive JSON readers that know only doubles.
    ``release`` is null where the page mixes releases.
    """
    items = []
    for rank, place in enumerate(page.items, start=1):
        item = None if titles is None else titles.get(place.item_id)
        items.append(
            {
                "rank": rank,
                "item_id": str(place.item_id),
                "key": None if item is None else item.key,
                "title": None if item is None else item.title,
                "score": place.score,
                "reason": place.reason.name if isinstance(place.reason, Reason) else f"REASON_{place.reason}",
                "channel": place.channel.name
                if isinstance(place.channel, FoundBy)
                else f"CHANNEL_{place.channel}",
                "because": None if place.because is None else str(place.because),
                "words": describe(place, _because(place, titles)),
                "propensity": place.propensity,
            }
        )
    return {
        "items": items,
        "status": [flag.name for flag in STATUS_WORDS if flag in page.status],
        "release": page.release if page.is_consistent else None,
        "releases": dict(page.releases),
        "arm": page.arm,
        "latency_ms": None if latency is None else round(latency * 1000, 3),
    }


def _because(place: Recommendation, titles: Mapping[int, Item] | None) -> str | None:
    """What people call the item of the history that `place` is nearest to; None where that is not known."""
    if titles is None or place.because is None or place.because not in titles:
        return None
    return _title(titles[place.because])


def _title(item: Item | None) -> str:
    if item is None:
        return "?"
    kept, width = "", 0
    for letter in item.title:
        width += _width(letter)
        if width > LONGEST_TITLE:
            return kept.rstrip() + "…"
        kept += letter
    return kept


def _key(item: Item | None, item_id: int) -> str:
    return str(item_id) if item is None else item.key


def _width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _fill(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
