"""The tensor contract between clients, the ensemble and its stages.

Everything that two rooms of the house must agree on stands here once: widths, names, dtypes and the
meaning of codes. It lives in the client distribution because that is the one everybody can afford.

All tensors keep the batch: ``[B, width]`` in, ``[B, width]`` out. Widths are fixed per build, because
variable lengths block dynamic batching.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, fields

ANONYMOUS = -1
"""The wire id of a user who is not known by name."""

PADDING_ID = -1
"""The wire id that fills unused places of an item list."""

PADDING_INDEX = 0
"""The item index that fills unused places inside a release (real items are 1 … number of items)."""

MAX_ID = 2**63 - 1
"""The largest wire id (ids are INT64)."""


DEFAULT_DIVERSITY = 0.3
"""The diversity that a client sends where its caller names none: from 0, the ranker's order, to 1."""


DEADLINE = "deadline_ms"
"""The request parameter that says until when an answer is of use: milliseconds of Unix time, an integer.

A client's own timeout does not take its request out of the server's queues; a stage refuses a request whose
deadline is too near. The clocks of client and server must agree to within milliseconds.
"""


STAGE_SECONDS = "tritonrec_stage_seconds"
"""The histogram, among Triton's metrics, of the seconds that a batch takes; labels are stage and release."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The widths of a build's tensors; a release's manifest records the ones it was built with."""

    candidates: int = 500
    """K: how many candidates `retrieve` hands to `rank`."""
    results: int = 20
    """N: how many items a page holds."""
    history: int = 100
    """L: how many of a user's last items the models see, newest last."""
    seen: int = 1024
    """E: how many of a user's items are kept from coming back."""
    session: int = 20
    """S: how many items of the running session a request may carry."""
    user_features: int = 8
    """F: how many feature codes describe a user."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field.name} is {value!r}; it must be an integer of at least 1")
        if self.results > self.candidates:
            raise ValueError(
                f"results is {self.results}; it may be at most the number of candidates, {self.candidates}"
            )

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class Status(enum.IntFlag):
    """What was degraded while a page was made; 0 is a fully personal page."""

    OK = 0
    ANONYMOUS_USER = 1
    """No user id was given: the page rests on the session's items, if any."""
    UNKNOWN_USER = 2
    """The store does not know this user id."""
    UNKNOWN_SESSION_ITEM = 4
    """At least one session item is not in this release; it was ignored."""
    STORE_UNAVAILABLE = 8
    """The feature store was down or too slow: the user's history was not used."""
    CORRUPT_RECORD = 16
    """The store's record of this user could not be read and was ignored."""
    SEEN_TRUNCATED = 32
    """The user has more items than the build keeps as seen; the oldest may come back."""
    SHORT_PAGE = 64
    """Fewer items than the page holds were left for this user; the rest is padding."""


class Reason(enum.IntEnum):
    """Why an item is on the page."""

    PADDING = 0
    """No item: the page is short."""
    HISTORY = 1
    """The models chose it from what the user did."""
    POPULAR = 2
    """Nothing is known of the user: the models chose what most people start with."""
    VARIETY = 3
    """Moved up, past better scores, because it differs from the items above it."""
    PINNED = 4
    """An operator's rule put it there."""
    EXPLORED = 5
    """Drawn at random to learn what becomes of it; see the place's propensity."""


class FoundBy(enum.IntEnum):
    """The kind of retrieval channel that found an item; of several, the one that counted most."""

    NONE = 0
    """No item, or one that an operator's rule or exploration put there."""
    TRANSFORMER = 1
    """What the order of the user's history leads to."""
    GRU = 2
    LSTM = 3
    MIND = 4
    """One of the user's several interests."""
    TWO_TOWERS = 5
    ITEM_KNN = 6
    """Whoever met items of the history met this one."""
    EASE = 7
    USER_KNN = 8
    """Users with a similar history met it."""
    CONTENT = 9
    """Its text is like those of the history."""
    POPULARITY = 10
    """Many turn to it just now."""


class Event(enum.IntEnum):
    """What a user did; clicks and purchases become history, everything is counted and logged."""

    VIEW = 1
    """The item was shown to the user: an impression."""
    CLICK = 2
    """The user opened it."""
    PURCHASE = 3
    """The user bought it, or whatever a service counts as success."""
    SKIP = 4
    """The user passed over it."""


class Acknowledgement(enum.IntEnum):
    """What became of an event; either way it is on disk."""

    RECORDED = 1
    """It was written now."""
    KNOWN = 2
    """An event with this id had been written before; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the contract.

    `dtype` is Triton's name of it; `width` is a field of `Sizes`, or 1.
    """

    name: str
    dtype: str
    width: str | int

    def resolve(self, sizes: Sizes) -> int:
        """This tensor's width under `sizes`."""
        return self.width if isinstance(self.width, int) else int(getattr(sizes, self.width))


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the pipeline: what it takes and what it gives."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


# What a client sends.
USER_ID = Tensor("user_id", "INT64", 1)
SESSION_ITEMS = Tensor("session_items", "INT64", "session")
DIVERSITY = Tensor("diversity", "FP32", 1)

# What travels between stages: indices of the release, never wire ids.
USER_FEATURES = Tensor("user_features", "INT32", "user_features")
HISTORY = Tensor("history", "INT32", "history")
SEEN = Tensor("seen", "INT32", "seen")
LOOKUP_STATUS = Tensor("lookup_status", "INT32", 1)
CANDIDATE = Tensor("candidate", "INT32", "candidates")
CANDIDATE_CHANNEL = Tensor("candidate_channel", "INT32", "candidates")
RETRIEVAL_SCORE = Tensor("retrieval_score", "FP32", "candidates")
RANK_SCORE = Tensor("rank_score", "FP32", "candidates")

# What a client gets.
ITEM_ID = Tensor("item_id", "INT64", "results")
SCORE = Tensor("score", "FP32", "results")
REASON = Tensor("reason", "INT32", "results")
CHANNEL = Tensor("channel", "INT32", "results")
BECAUSE = Tensor("because", "INT64", "results")
PROPENSITY = Tensor("propensity", "FP32", "results")
STATUS = Tensor("status", "INT32", 1)


def release_tensor(stage: str) -> Tensor:
    """The tensor in which `stage` says which release it belongs to (see `release_to_wire`)."""
    return Tensor(f"{stage}_release", "INT64", 1)


def names_release(tensor: str) -> bool:
    """Whether the tensor called so says which release a stage belongs to."""
    return tensor.endswith("_release") and tensor != PAGE_RELEASE.name


STAGES: tuple[Model, ...] = (
    Model(
        "feature_lookup",
        (USER_ID, SESSION_ITEMS),
        (USER_FEATURES, HISTORY, SEEN, LOOKUP_STATUS, release_tensor("feature_lookup")),
    ),
    Model(
        "retrieve",
        (USER_FEATURES, HISTORY, SEEN),
        (CANDIDATE, RETRIEVAL_SCORE, release_tensor("retrieve")),
    ),
    Model(
        "rank",
        (USER_FEATURES, HISTORY, CANDIDATE, RETRIEVAL_SCORE),
        (RANK_SCORE, release_tensor("rank")),
    ),
    Model(
        "rerank",
        (CANDIDATE, RANK_SCORE, HISTORY, SEEN, LOOKUP_STATUS, DIVERSITY),
        (ITEM_ID, SCORE, REASON, CHANNEL, BECAUSE, PROPENSITY, STATUS, release_tensor("rerank")),
    ),
)

RECOMMEND = Model(
    "recommend",
    (USER_ID, SESSION_ITEMS, DIVERSITY),
    (
        ITEM_ID,
        SCORE,
        REASON,
        CHANNEL,
        BECAUSE,
        PROPENSITY,
        STATUS,
        *(release_tensor(stage.name) for stage in STAGES),
    ),
)

PIPELINE = Model("pipeline", RECOMMEND.inputs, RECOMMEND.outputs)
"""All stages in one model: what `recommend` consists of where they share a processor, as on a CPU."""

RETRIEVE_AND_RANK = Model(
    "retrieve_and_rank",
    (USER_FEATURES, HISTORY, SEEN),
    (CANDIDATE, RETRIEVAL_SCORE, RANK_SCORE, release_tensor("retrieve"), release_tensor("rank")),
)
"""`retrieve` and `rank` in one model: on a GPU, where nothing between them needs to leave the card."""

# What a client tells. These ids are those of one event, so the item's tensor is one wide.
EVENT_ITEM_ID = Tensor("item_id", "INT64", 1)
EVENT = Tensor("event", "INT32", 1)
TIMESTAMP = Tensor("timestamp", "INT64", 1)
EVENT_ID = Tensor("event_id", "INT64", 2)
PAGE_RELEASE = Tensor("page_release", "INT64", 1)
EVENT_PROPENSITY = Tensor("propensity", "FP32", 1)
PLACE = Tensor("place", "INT32", 1)
ACKNOWLEDGED = Tensor("acknowledged", "INT32", 1)
FORGOTTEN = Tensor("forgotten", "INT32", 1)

NO_RELEASE = -1
"""The `page_release` of an event that did not come from a page."""

NO_PLACE = -1
"""The `place` of an event whose item stood on no page, or nobody knows where; the first place is 0."""

NO_PROPENSITY = 0.0
"""The `propensity` of an event where it is not known: what happened was not impossible."""

RECORD_EVENT = Model(
    "record_event",
    (USER_ID, EVENT_ITEM_ID, EVENT, TIMESTAMP, EVENT_ID, PAGE_RELEASE, EVENT_PROPENSITY, PLACE),
    (ACKNOWLEDGED, release_tensor("record_event")),
)
"""Writes what a user did: unix seconds, an id of 128 bits as two numbers, and of the page its release, where
on it the item stood and how likely it was to stand there.

An answer means that the event is on disk. An event with an id that is known changes nothing.
"""

FORGET_USER = Model("forget_user", (USER_ID,), (FORGOTTEN, release_tensor("forget_user")))
"""Removes a user's record and logged events; `forgotten` is 1 where there was something, else 0."""

FEEDBACK: tuple[Model, ...] = (RECORD_EVENT, FORGET_USER)
"""The models that write. They stand alone, so that they can be loaded anew without touching a page."""

MODELS: dict[str, Model] = {
    model.name: model for model in (*STAGES, PIPELINE, RETRIEVE_AND_RANK, RECOMMEND, *FEEDBACK)
}


def release_to_wire(release: str) -> int:
    """A release's name, 12 hexadecimal digits, as the INT64 that stages emit.

    Raises ValueError where `release` is not such a name.
    """
    if len(release) != 12 or any(digit not in "0123456789abcdef" for digit in release):
        raise ValueError(f"release is {release!r}; a release's name is 12 hexadecimal digits")
    return int(release, 16)


def release_from_wire(value: int) -> str:
    """The inverse of `release_to_wire`."""
    return f"{value:012x}"
