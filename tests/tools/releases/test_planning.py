"""What [[channels]] and [[rankers]] make of a release's steps."""

from __future__ import annotations

from typing import Any

import pytest
from tritonrec_client.contract import RECOMMEND, names_release

from python_backend.plan import Plan
from tools.config.build import BuildConfig
from tools.releases.planning import plan_of, ranked_sizes

CHANNELS = [{"model": "transformer"}, {"model": "ease", "quota": 50}, {"model": "popularity", "name": "now"}]


def config(**sections: Any) -> BuildConfig:
    data = {"events": {"path": "e.csv", "user": "u", "item": "i", "timestamp": "t"}}
    return BuildConfig.model_validate({"name": "shop", "data": data, **sections})


CONFIGS = {
    "nothing": config(),
    "channels": config(channels=CHANNELS),
    "one ranker": config(rankers=[{"model": "dnn"}]),
    "rankers": config(rankers=[{"model": "main"}, {"model": "dcn_v2"}]),
    "a first look": config(rankers=[{"model": "logistic", "keep": 80}, {"model": "main"}]),
    "everything": config(
        channels=CHANNELS,
        rankers=[
            {"model": "logistic", "keep": 80},
            {"model": "dnn", "keep": 80},
            {"model": "main"},
            {"model": "lstm"},
        ],
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_takes_what_the_caller_or_an_earlier_step_gives_and_as_wide(name: str) -> None:
    sizes = CONFIGS[name].sizes
    given = {tensor.name: (tensor.dtype, tensor.resolve(sizes)) for tensor in RECOMMEND.inputs}
    for step in plan_of(CONFIGS[name]).steps:
        for port in step.inputs:
            assert given[port.name] == (port.dtype, port.width), f"{step.model}: {port.name}"
        for port in step.outputs:
            assert port.name not in given, f"{step.model} gives {port.name} a second time"
            given[port.name] = (port.dtype, port.width)
    for tensor in RECOMMEND.outputs:
        assert given[tensor.name] == (tensor.dtype, tensor.resolve(sizes))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_says_its_release(name: str) -> None:
    for step in plan_of(CONFIGS[name]).steps:
        assert sum(names_release(port.name) for port in step.outputs) == 1, step.model


def test_without_channels_and_rankers_the_steps_are_the_contracts() -> None:
    assert plan_of(CONFIGS["nothing"]) == Plan.default(CONFIGS["nothing"].sizes)


def test_channels_are_models_of_their_own_with_their_quota_and_files() -> None:
    steps = plan_of(CONFIGS["channels"]).steps
    assert [step.model for step in steps] == [
        "feature_lookup",
        "retrieve_transformer",
        "retrieve_ease",
        "retrieve_now",
        "merge",
        "rank",
        "rerank",
    ]
    ease = steps[2]
    assert (ease.stage, ease.folder, ease.candidates) == ("retrieve", "retrieve_ease", 50)
    assert [port.tensor for port in ease.outputs] == ["candidate", "retrieval_score", "retrieve_release"]
    assert "candidate_channel" in {port.name for port in steps[-1].inputs}


def test_a_light_ranker_leaves_fewer_candidates_to_those_behind_it() -> None:
    plan = plan_of(CONFIGS["everything"])
    models = [step.model for step in plan.steps]
    assert models[models.index("merge") + 1 :] == [
        "rank_logistic",
        "rank_dnn",
        "blend_light",
        "cut",
        "rank_main",
        "rank_lstm",
        "blend",
        "rerank",
    ]
    widths = {step.model: step.candidates for step in plan.steps}
    assert widths["rank_logistic"] == widths["blend_light"] == 500
    assert widths["cut"] == widths["rank_main"] == widths["blend"] == widths["rerank"] == 80
    assert ranked_sizes(plan, CONFIGS["everything"].sizes).candidates == 80


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"channels": [{"model": "ease"}]}, "channels has no transformer"),
        ({"channels": [*CHANNELS, {"model": "gru", "name": "ease"}]}, "two channels are called 'ease'"),
        ({"channels": [{"model": "transformer", "quota": 501}]}, "quota of the channel 'transformer' is 501"),
        ({"channels": [{"model": "transformer", "quota": 5}]}, "from contract.results, 20, to"),
        ({"channels": CHANNELS, "profiles": ["gpu"]}, "profiles is gpu"),
        ({"rankers": [{"model": "logistic", "keep": 80}]}, "at least one ranker without"),
        ({"channels": [{"model": "transformer"}, {"model": "tree"}]}, "tree"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_door(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**sections)
