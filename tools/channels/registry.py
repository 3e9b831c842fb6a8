"""Which module fits which kind of channel."""

from __future__ import annotations

import importlib

from tools.channels.channel import Channel, Fit, Material
from tools.config.channels import ChannelConfig
from tools.training.retriever import Progress

MODULES = {
    "gru": "recurrent",
    "lstm": "recurrent",
    "mind": "interests",
    "two_towers": "two_towers",
    "item_knn": "item_knn",
    "ease": "ease",
    "user_knn": "user_knn",
    "content": "content",
    "popularity": "popularity",
}
"""The module, among this room's, of each ``model`` of [[channels]]; the transformer is [retrieve]'s."""


def fit_channel(
    config: ChannelConfig, material: Material, progress: Progress = lambda done, total, text: None
) -> Channel:
    """The channel that the section `config` asks for, fitted to `material`.

    Raises ValueError for the transformer, which the build trains for itself, and what the kind's `fit` does.
    """
    if config.model not in MODULES:
        raise ValueError(
            f"model is {config.model!r}, which is not fitted here; allowed are {', '.join(MODULES)}"
        )
    # Each kind needs other libraries.
    module = importlib.import_module(f"tools.channels.{MODULES[config.model]}")
    fit: Fit = module.fit
    return fit(config, material, progress)
