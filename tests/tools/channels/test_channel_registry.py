from __future__ import annotations

from typing import get_args

import pytest
from planted_tastes import material_of, section, walks

from tools.channels.registry import MODULES, fit_channel
from tools.config.channels import ChannelConfig, TransformerChannel


def test_every_model_that_a_section_may_name_is_fitted_by_some_module() -> None:
    sections = get_args(get_args(ChannelConfig)[0])
    named = {name for one in sections for name in get_args(one.model_fields["model"].annotation)}
    assert named - {"transformer"} == set(MODULES)


def test_the_transformer_is_trained_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"model is 'transformer'.*allowed are gru, lstm"):
        fit_channel(TransformerChannel(model="transformer"), material_of(walks(2, seed=0).tolist()))


def test_what_is_said_of_the_progress_is_every_epoch_and_its_loss() -> None:
    told: list[tuple[int, int, str]] = []
    fit_channel(
        section("gru", epochs=2),
        material_of(walks(4, seed=0).tolist()),
        lambda done, total, text: told.append((done, total, text)),
    )
    assert [(done, total) for done, total, _ in told] == [(1, 2), (2, 2)]
    assert all(text.startswith("loss ") for _, _, text in told)
