"""Fitting the channels of a configuration, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tritonrec_client.contract import Sizes

from tools.channels.channel import Material
from tools.channels.registry import fit_channel
from tools.config.channels import ChannelConfig, TransformerChannel
from tools.config.slots import name_of
from tools.training.features import Features
from tools.training.index_export import export_retrieve
from tools.training.retriever import Progress, Retriever


def folder_of(folder: Path, channel: ChannelConfig) -> Path:
    """Where in `folder` the files of `channel` are."""
    return folder / f"retrieve_{name_of(channel)}"


def fit_channels(
    channels: Sequence[ChannelConfig],
    material: Material,
    sizes: Sizes,
    folder: Path,
    progress: Progress = lambda done, total, text: None,
) -> dict[str, float]:
    """Fit all `channels` but the transformer and write each into `folder`; how many seconds each fit took.

    The seconds are by the names of the folders, and in none of them: what is built must not depend on how
    fast that was. Raises what a channel's fit raises, and GraphMismatch.
    """
    seconds = {}
    others = [channel for channel in channels if not isinstance(channel, TransformerChannel)]
    for number, channel in enumerate(others):
        name = name_of(channel)

        def said(done: int, total: int, text: str, name: str = name, number: int = number) -> None:
            progress(number * total + done, total * len(others), f"{name}  {text}")

        began = time.perf_counter()
        fitted = fit_channel(channel, material, said)
        target = folder_of(folder, channel)
        seconds[target.name] = time.perf_counter() - began
        target.mkdir(parents=True)
        fitted.write(target, replace(sizes, candidates=channel.quota))
    return seconds


def write_transformer(
    channels: Sequence[ChannelConfig], retriever: Retriever, features: Features, sizes: Sizes, folder: Path
) -> None:
    """Write `retriever` into `folder` as the transformer among `channels`. Raises GraphMismatch."""
    for channel in channels:
        if isinstance(channel, TransformerChannel):
            target = folder_of(folder, channel)
            target.mkdir(parents=True)
            export_retrieve(retriever, features, replace(sizes, candidates=channel.quota), target)
