"""Going on with the models of an earlier release on what has happened since.

The time it takes depends on what is new, not on all there is: the retriever sees the users with new events,
and as many others so that it does not forget them (experience replay: Rolnick et al. 2019,
https://arxiv.org/abs/1811.11682). The earlier retriever has not seen the new events, so its candidates for
them are what the ranker learns from, as in a full build (`candidates`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tools.config.build import BuildConfig
from tools.data.interactions import Interactions
from tools.training.candidates import retrieved_examples
from tools.training.checkpoint import Checkpoint
from tools.training.cold_start import warm_up_items
from tools.training.evidence import Evidence, Neighbours
from tools.training.features import Features
from tools.training.models import Curve, Models, Step
from tools.training.rank_training import train_ranker
from tools.training.ranker import Ranker
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import Retriever


def refresh_models(
    config: BuildConfig,
    checkpoint: Checkpoint,
    interactions: Interactions,
    gained: NDArray[np.int64],
    features: Features,
    step: Step,
    *,
    rank: bool = True,
) -> Models:
    """The models of `checkpoint`, trained on with the newest `gained` (int64 ``[U]``) events of each user.

    `features` are those of ``checkpoint.features``. Items that the checkpoint does not have start with what
    their features suggest. Without `rank` the ranker keeps what it learned, because its candidates do not
    come from the retriever alone. Raises ConfigError where the configuration asks for models of another form.
    """
    history, seed = config.sizes.history, config.seed
    gained = np.minimum(gained, interactions.lengths)
    older = interactions.without_last(gained)
    retriever = Retriever(config.retrieve, features, history)
    ranker = Ranker(config.rank, features, history, Neighbours.of(older, config.rank.neighbours))
    checkpoint.load_retriever(retriever, interactions.item_ids)
    checkpoint.load_ranker(ranker, interactions.item_ids)
    unknown = checkpoint.rows_of(interactions.item_ids) == 0
    for model in (retriever, ranker):
        warm_up_items(model, unknown, older.popularity())
    ranker_curve: Curve = []
    retriever_curve: Curve = []
    slowly = {"learning_rate": config.refresh.learning_rate}
    with step("training the ranker on what is new") as update:
        if rank and gained.any():
            place = np.arange(interactions.n_events) - np.repeat(
                interactions.offsets[1:], interactions.lengths
            )
            examples = retrieved_examples(
                retriever,
                interactions,
                features,
                np.flatnonzero(place >= -np.repeat(gained, interactions.lengths)),
                history=history,
                candidates=config.sizes.candidates,
            )
            ranker, ranker_curve = train_ranker(
                examples,
                features,
                config.rank.model_copy(update={**slowly, "epochs": 1}),
                history=history,
                seed=seed,
                start=ranker,
                progress=update,
            )
        ranker.evidence = Evidence(Neighbours.of(interactions, config.rank.neighbours))
    with step("training the retriever on what is new") as update:
        if gained.any():
            retriever, retriever_curve = train_retriever(
                _with_replay(interactions, gained > 0, config.refresh.replay, seed),
                features,
                config.retrieve.model_copy(update={**slowly, "epochs": config.refresh.epochs}),
                history=history,
                seed=seed,
                start=retriever,
                progress=update,
            )
    return Models(retriever.eval(), ranker.eval(), {"retriever": retriever_curve, "ranker": ranker_curve})


def _with_replay(
    interactions: Interactions, chosen: NDArray[np.bool_], replay: float, seed: int
) -> Interactions:
    """The events of the `chosen` users, bool ``[U]``, and of `replay` times as many others."""
    others = np.flatnonzero(~chosen & (interactions.lengths > 0))
    count = min(len(others), round(replay * int(chosen.sum())))
    kept = chosen.copy()
    kept[np.random.default_rng(seed).permutation(others)[:count]] = True
    return interactions.without_last(np.where(kept, 0, interactions.lengths))
