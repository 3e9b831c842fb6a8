"""Pages: what the server answered, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tritonrec_client import contract
from tritonrec_client.contract import FoundBy, Reason, Status
from tritonrec_client.errors import MixedReleases

_PLACE = (
    contract.ITEM_ID,
    contract.SCORE,
    contract.REASON,
    contract.CHANNEL,
    contract.BECAUSE,
    contract.PROPENSITY,
)
# A look into a table costs a tenth of asking the enumeration, twice for each place of a page.
_REASONS: Mapping[int, Reason] = {int(reason): reason for reason in Reason}
_KINDS: Mapping[int, FoundBy] = {int(kind): kind for kind in FoundBy}


class Recommendation(NamedTuple):
    """One place of a page."""

    item_id: int
    """The item's wire id; a release's item table leads from it to the item's own key and title."""
    score: float
    """The probability, as the ranker sees it, that this is what the user turns to next."""
    reason: Reason | int
    """Why it is here; a bare int where the server knows more reasons than this client."""
    channel: FoundBy | int = FoundBy.NONE
    """The kind of channel that found it; a bare int where the server knows more kinds than this client."""
    because: int | None = None
    """The wire id of the history's item that is most like it, in the model's own space, if any is."""
    propensity: float = 1.0
    """How likely this item was to be shown at this place, given all above it; 1 where nothing was drawn."""


@dataclass(frozen=True, slots=True)
class Page:
    """Recommendations for one request, best first, padding removed."""

    items: tuple[Recommendation, ...]
    status: Status
    """What was degraded while the page was made; `Status.OK` is a fully personal page."""
    releases: Mapping[str, str]
    """The release of each stage that worked on the page, by the stage's name."""
    arm: str | None = None
    """The experiment's arm that the page belongs to; None outside of experiments."""

    @property
    def is_consistent(self) -> bool:
        """Whether one release made the whole page."""
        return len(set(self.releases.values())) == 1

    @property
    def release(self) -> str:
        """The release that made the page. Raises MixedReleases where there is not exactly one."""
        if not self.is_consistent:
            raise MixedReleases(dict(self.releases))
        return next(iter(self.releases.values()))


def decode(
    arrays: Mapping[str, npt.NDArray[np.generic]], counts: Sequence[int | None], arm: str | None = None
) -> list[Page]:
    """The pages in the outputs of one inference, ``[B, width]`` each.

    `counts` ``[B]`` cuts each page to its first items; None keeps them all. `arm` is the pages' arm.
    """
    columns = [arrays[tensor.name].tolist() for tensor in _PLACE]
    statuses = arrays[contract.STATUS.name].tolist()
    releases = {
        name.removesuffix("_release"): array.tolist()
        for name, array in arrays.items()
        if contract.names_release(name)
    }
    return [
        Page(
            tuple(
                Recommendation(
                    item_id,
                    score,
                    _REASONS.get(reason, reason),
                    _KINDS.get(channel, channel),
                    None if because == contract.PADDING_ID else because,
                    propensity,
                )
                for item_id, score, reason, channel, because, propensity in zip(
                    *(column[row] for column in columns), strict=True
                )
                if item_id != contract.PADDING_ID
            )[:count],
            Status(statuses[row][0]),
            {stage: contract.release_from_wire(values[row][0]) for stage, values in releases.items()},
            arm,
        )
        for row, count in enumerate(counts)
    ]
