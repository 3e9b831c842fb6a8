"""The client of tritonrec: recommendations from an NVIDIA Triton server over gRPC, and feedback to it.

    >>> from tritonrec_client import Client
    >>> with Client("localhost:8001") as client:
    ...     page = client.recommend(user=42, session=[7, 12])
    ...     client.record_event(user=42, item=page.items[0].item_id, event="click", page=page)

Names are imported when they are first used, because the stages inside Triton import this package for its
contract and must not pay for gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonrec_client.aio import AsyncClient
    from tritonrec_client.client import Client
    from tritonrec_client.contract import DEFAULT_DIVERSITY, Acknowledgement, Event, Reason, Sizes, Status
    from tritonrec_client.errors import (
        DeadlineExceeded,
        InvalidRequest,
        MixedReleases,
        RecommendError,
        ServerError,
        Unavailable,
    )
    from tritonrec_client.experiment import Arm, Experiment
    from tritonrec_client.feedback import Feedback
    from tritonrec_client.ids import pseudonym, pseudonyms, read_pseudonym_key, wire_id, wire_ids
    from tritonrec_client.items import Item, read_items
    from tritonrec_client.options import Keepalive, Retry, Timeout, Tls
    from tritonrec_client.page import Page, Recommendation
    from tritonrec_client.request import Request
    from tritonrec_client.table import format_page

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_DIVERSITY",
    "Acknowledgement",
    "Arm",
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Event",
    "Experiment",
    "Feedback",
    "InvalidRequest",
    "Item",
    "Keepalive",
    "MixedReleases",
    "Page",
    "Reason",
    "RecommendError",
    "Recommendation",
    "Request",
    "Retry",
    "ServerError",
    "Sizes",
    "Status",
    "Timeout",
    "Tls",
    "Unavailable",
    "format_page",
    "pseudonym",
    "pseudonyms",
    "read_items",
    "read_pseudonym_key",
    "wire_id",
    "wire_ids",
]

_MODULES = {
    "aio": ("AsyncClient",),
    "client": ("Client",),
    "contract": ("DEFAULT_DIVERSITY", "Acknowledgement", "Event", "Reason", "Sizes", "Status"),
    "errors": (
        "DeadlineExceeded",
        "InvalidRequest",
        "MixedReleases",
        "RecommendError",
        "ServerError",
        "Unavailable",
    ),
    "experiment": ("Arm", "Experiment"),
    "feedback": ("Feedback",),
    "ids": ("pseudonym", "pseudonyms", "read_pseudonym_key", "wire_id", "wire_ids"),
    "items": ("Item", "read_items"),
    "options": ("Keepalive", "Retry", "Timeout", "Tls"),
    "page": ("Page", "Recommendation"),
    "request": ("Request",),
    "table": ("format_page",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """The public name `name`, imported now (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
