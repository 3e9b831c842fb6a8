"""Training the models of a release that has several channels or several rankers.

As with one of each, events are folded in time: channels that know each user's older events find candidates
for the newer ones, and on those the merge is fitted and the rankers are trained. What is served is fitted to
all events.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from python_backend.release import Release
from python_backend.stages.blend import Blend
from python_backend.stages.merge import Merge
from tools.channels.channel import Material
from tools.channels.fitting import fit_channels, write_transformer
from tools.channels.merged import Channels, merged_examples, plain_merge
from tools.channels.merging import EXAMPLES, fit_merge
from tools.config.build import BuildConfig, ConfigError
from tools.config.channels import TransformerChannel
from tools.config.rankers import MAIN, MainRanker
from tools.config.slots import RankerSection, name_of
from tools.data.dataset import Dataset
from tools.data.interactions import Interactions
from tools.rankers.stacking import held_out_users, stack
from tools.rankers.training import fit_ranker
from tools.training.candidates import RankingExamples, Retrieval, newest_counts, retrieval_by
from tools.training.evidence import Evidence, Neighbours
from tools.training.features import Features
from tools.training.models import Curve, Models, Step, start_worker, use_half_of_the_cores
from tools.training.rank_training import rank_logits, train_ranker
from tools.training.ranker import Ranker
from tools.training.retrieve_training import train_retriever
from tools.training.retriever import HeldOut, Progress, Retriever
from tools.training.teacher import Teacher

HELD_OUT = 0.1
"""The share of users who are kept from the rankers, to fit their blend on."""


def more_steps(config: BuildConfig, *, refresh: bool = False) -> int:
    """How many steps a build, or a refresh, has more because of the channels and rankers of `config`."""
    if refresh:
        return 1 if config.channels else 0
    return (2 if config.channels else 0) + (1 if config.channels or config.rankers else 0)


def material_of(
    config: BuildConfig, dataset: Dataset, interactions: Interactions, features: Features
) -> Material:
    """What channels learn from: `interactions` of the `dataset`, and what it says of items."""
    return Material(
        interactions,
        features,
        dataset.item_titles,
        config.sizes.history,
        config.seed,
        dataset.item_vectors,
        dataset.item_features,
    )


def refresh_slots(
    config: BuildConfig, release: Release, material: Material, step: Step, folder: Path
) -> None:
    """Write into `folder` what serves beside the retriever and the ranker when `release` is trained on.

    Channels are fitted anew to all events; the merge is that of `release`, which knows as many channels.
    Raises ConfigError where it has other channels, or where there are rankers but that of [rank], which would
    need a build.
    """
    rankers = [name_of(ranker) for ranker in config.rankers if not isinstance(ranker, MainRanker)]
    if rankers:
        raise ConfigError(
            [f"rankers: found {', '.join(rankers)}; a refresh trains {MAIN} alone: build without --refresh"]
        )
    if not config.channels:
        return
    names = [name_of(channel) for channel in config.channels]
    try:
        merge = Merge.open(release.artifacts / "merge", config.sizes.candidates)
        before = [voice.name for voice in merge.voices]
    except FileNotFoundError:
        before = []
    if names != before:
        raise ConfigError(
            [
                f"channels: found {', '.join(names)}; release {release.name} has"
                f" {', '.join(before) or 'none'}: build without --refresh"
            ]
        )
    with step("fitting channels to all events") as update:
        fit_channels(config.channels, material, config.sizes, folder, update)
    merge.write(folder / "merge")


def retrieval_of(config: BuildConfig, retriever: Retriever, features: Features, folder: Path) -> Retrieval:
    """What finds candidates in this process: the channels and the merge in `folder`, or the `retriever`."""
    if not config.channels:
        return retrieval_by(retriever, features, config.sizes)
    channels = Channels(folder, config.channels)
    merge = Merge.open(folder / "merge", config.sizes.candidates)

    def merged(interactions: Interactions, events: NDArray[np.int64]) -> RankingExamples:
        lists = channels.before(interactions, features, events, config.sizes)
        return merged_examples(merge, lists, config.sizes)

    return merged


def train_slots(
    config: BuildConfig,
    material: Material,
    step: Step,
    folder: Path,
    *,
    validation: HeldOut | None = None,
    teacher: Teacher | None = None,
) -> Models:
    """Train all that `config` names on the events of `material`, and write it into `folder`.

    The retriever and the ranker of [rank] are returned instead, since what else a build makes of them depends
    on more; a ranker that `config` does not name is left untrained. Channels other than the transformer go
    to ``retrieve_<channel>``, the merge to ``merge``, rankers to ``rank_<ranker>`` and their blends to
    ``blend`` and ``blend_light``. `validation` is only measured, by the retriever.
    """
    interactions, features, sizes = material.interactions, material.features, config.sizes
    older, events = folded(interactions, config)
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_worker) as other,
        tempfile.TemporaryDirectory(dir=folder.parent) as temporary,
    ):
        use_half_of_the_cores()
        training = other.submit(
            _timed_retriever,
            interactions,
            features,
            config.retrieve,
            history=sizes.history,
            seed=config.seed,
            teacher=teacher,
            validation=validation,
        )
        fitting = other.submit(fit_channels, config.channels, material, sizes, folder)
        with step("training a retriever of older events") as update:
            retriever, older_curve = train_retriever(
                older, features, config.retrieve, history=sizes.history, seed=config.seed + 1, progress=update
            )
        past, past_folder = replace(material, interactions=older, seed=config.seed + 1), Path(temporary)
        if config.channels:
            with step("fitting channels to older events") as update:
                fit_channels(config.channels, past, sizes, past_folder, update)
                write_transformer(config.channels, retriever, features, sizes, past_folder)
            with step("fitting their merge"):
                merge = _fit_merge(config, past, interactions, events, past_folder)
                for target in (past_folder, folder):
                    merge.write(target / "merge")
        with step("asking for candidates of newer events"):
            examples = retrieval_of(config, retriever, features, past_folder)(interactions, events)
        with step("training rankers on them") as update:
            ranker, ranker_curve, seconds = train_rankers(
                config, interactions, older, features, examples, folder, update
            )
        with step("training the retriever and channels, meanwhile"):
            whole, curve, spent = training.result()
            seconds |= fitting.result()
    for channel in config.channels:
        if isinstance(channel, TransformerChannel):
            seconds[f"retrieve_{name_of(channel)}"] = spent
    curves = {"retriever": curve, "older retriever": older_curve, "ranker": ranker_curve}
    return Models(whole, ranker, {name: rows for name, rows in curves.items() if rows}, seconds)


def _timed_retriever(*arguments: Any, **keywords: Any) -> tuple[Retriever, Curve, float]:
    """What `train_retriever` gives, and how many seconds it took."""
    began = time.perf_counter()
    return *train_retriever(*arguments, **keywords), time.perf_counter() - began


def folded(interactions: Interactions, config: BuildConfig) -> tuple[Interactions, NDArray[np.int64]]:
    """Each user's older events, and the places among all of the newer ones, int64 ``[n]``."""
    newer = newest_counts(interactions, config.rank)
    place = np.arange(interactions.n_events) - np.repeat(interactions.offsets[:-1], interactions.lengths)
    events = np.flatnonzero(place >= np.repeat(interactions.lengths - newer, interactions.lengths))
    return interactions.without_last(newer), events


def _fit_merge(
    config: BuildConfig,
    past: Material,
    interactions: Interactions,
    events: NDArray[np.int64],
    folder: Path,
) -> Merge:
    """The merge of the channels in `folder`, which learned from `past`, fitted to some of `events`."""
    merge = plain_merge(config.channels, config.merge.constant, config.sizes.candidates)
    some = np.sort(np.random.default_rng(config.seed).permutation(events)[:EXAMPLES])
    channels = Channels(folder, config.channels)
    found = list(channels.before(interactions, past.features, some, config.sizes))
    return fit_merge(merge, found, learned=config.merge.method == "learned") if found else merge


def train_rankers(
    config: BuildConfig,
    interactions: Interactions,
    older: Interactions,
    features: Features,
    examples: RankingExamples,
    folder: Path,
    progress: Progress,
) -> tuple[Ranker, Curve, dict[str, float]]:
    """The ranker of [rank], its curve, and each ranker's seconds by the name of its model.

    The other rankers of `config` and their blends go into `folder`.

    The `examples` are of events of `interactions` that are not among the `older` ones.
    """
    history, seed = config.sizes.history, config.seed
    stacked = config.blend.method == "stacked" and len(config.rankers) > 1
    learned, kept = held_out_users(examples, HELD_OUT if stacked else 0.0, seed)
    # Evidence that has not seen the answers; in service it rests on every event.
    neighbours = Neighbours.of(older, config.rank.neighbours)
    main = Ranker(config.rank, features, history, neighbours).eval()
    curve: Curve = []
    seconds: dict[str, float] = {}
    logits: dict[str, NDArray[np.float32]] = {}
    popularity = interactions.popularity()
    light = min((ranker.keep for ranker in config.rankers if ranker.keep), default=config.sizes.candidates)
    for number, section in enumerate(config.rankers or [MainRanker.model_validate({"model": MAIN})]):
        name = name_of(section)

        def said(done: int, total: int, text: str, name: str = name, number: int = number) -> None:
            progress(number * total + done, total * max(len(config.rankers), 1), f"{name}  {text}")

        began = time.perf_counter()
        if isinstance(section, MainRanker):
            main, curve = train_ranker(
                learned,
                features,
                config.rank,
                history=history,
                seed=seed,
                neighbours=neighbours,
                progress=said,
            )
            seconds[f"rank_{name}"] = time.perf_counter() - began
            if stacked:
                logits[name] = rank_logits(main, kept, features)
        else:
            fitted = fit_ranker(section, learned, features, history=history, seed=seed, progress=said)
            seconds[f"rank_{name}"] = time.perf_counter() - began
            fitted.warm_up(popularity == 0, popularity)
            target = folder / f"rank_{name}"
            target.mkdir(parents=True)
            width = config.sizes.candidates if section.keep else light
            fitted.write(target, replace(config.sizes, candidates=width))
            if stacked:
                logits[name] = fitted.logits(kept)
    for group, light_group in (("blend", False), ("blend_light", True)):
        members = [ranker for ranker in config.rankers if (ranker.keep is not None) == light_group]
        if len(members) > 1:
            (folder / group).mkdir()
            _blend_of(members, logits, kept).write(folder / group)
    main.evidence = Evidence(Neighbours.of(interactions, config.rank.neighbours))
    return main, curve, seconds


def _blend_of(
    rankers: Sequence[RankerSection], logits: Mapping[str, NDArray[np.float32]], kept: RankingExamples
) -> Blend:
    """What makes one score of those of `rankers`, fitted to the `kept` examples if they have `logits`."""
    names = [name_of(ranker) for ranker in rankers]
    if logits:
        stacking = stack([logits[name] for name in names], kept)
        return Blend(names, stacking.weights.round(6).tolist(), round(stacking.bias, 6))
    total = sum(ranker.weight for ranker in rankers)
    return Blend(names, [ranker.weight / total for ranker in rankers])
