"""Which items hardly anybody is shown, and what they lack.

Pages of the best N leave much of a catalogue unseen, although for most items there are users who want them
more than others do. An item's lift is what must be added to its logit so that it comes onto the pages of
those users: fairness of exposure (Singh & Joachims 2018, https://arxiv.org/abs/1802.07281; Biega et al. 2018,
https://arxiv.org/abs/1805.01788), in a closed form that treats one item at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def exposure_lift(
    candidates: NDArray[np.int32], logits: NDArray[np.float32], *, n_items: int, results: int, exposure: float
) -> NDArray[np.float32]:
    """The lift of every item, float32 ``[I + 1]``, at least 0.

    `candidates` int32 and `logits` float32 ``[U, K]`` are what the pipeline gives a sample of users, before
    pages of `results` are cut. An item is lifted onto the pages of `exposure` · U · N / I users, one at the
    least. Where that is more than `exposure` of all places, as for catalogues much larger than the sample,
    only the items that need the least are lifted. Items that are nobody's candidates stay as they are.
    """
    known = candidates > 0
    ordered = np.sort(np.where(known, logits, -np.inf), axis=1)
    threshold = ordered[:, -min(results, logits.shape[1])]
    margin = (logits - threshold[:, None])[known]
    item = candidates[known]
    order = np.lexsort((-margin, item))
    item, margin = item[order], margin[order]
    count = np.bincount(item, minlength=n_items + 1)
    places = len(candidates) * results
    wanted = max(1, round(exposure * places / n_items))
    found = np.flatnonzero(count)
    last = np.searchsorted(item, found) + np.minimum(wanted, count[found]) - 1
    lift = np.zeros(n_items + 1, dtype=np.float32)
    lift[found] = np.maximum(0, -margin[last])
    lifted = np.flatnonzero(lift > 0)
    affordable = int(exposure * places / wanted)
    if len(lifted) > affordable:
        cheapest = np.argsort(lift[lifted], kind="stable")
        lift[lifted[cheapest[affordable:]]] = 0
    return lift
