from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tritonrec_client.contract import Sizes

from tools.config.rankers import RankerConfig, check_rankers

SIZES = Sizes(candidates=500, results=20)
MODELS = ("logistic", "dnn", "dcn_v2", "target_attention", "neumf", "lstm")
READ: TypeAdapter[Any] = TypeAdapter(tuple[RankerConfig, ...])


def check(*rankers: dict[str, object]) -> None:
    check_rankers(READ.validate_python(rankers), SIZES)


@pytest.mark.parametrize("model", ["main", *MODELS])
def test_every_model_has_defaults(model: str) -> None:
    check({"model": model})


def test_a_model_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match="'dcn_v2'"):
        READ.validate_python([{"model": "dcn"}])


@pytest.mark.parametrize(("model", "key"), [("logistic", "hidden"), ("dnn", "crosses"), ("lstm", "heads")])
def test_a_key_of_another_model_is_refused(model: str, key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        READ.validate_python([{"model": model, key: 2}])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="heads is 3; it must divide width, 32"):
        READ.validate_python([{"model": "target_attention", "heads": 3}])


def test_several_rankers_and_a_first_look_are_right() -> None:
    check()
    check({"model": "dnn"}, {"model": "main"}, {"model": "dnn", "name": "other_dnn"})
    check({"model": "logistic", "keep": 100}, {"model": "dnn", "keep": 100}, {"model": "main"})
    check({"model": "logistic", "keep": 20}, {"model": "main"})
    check({"model": "logistic", "keep": 499}, {"model": "main"})


@pytest.mark.parametrize(
    ("rankers", "message"),
    [
        ([{"model": "dnn"}, {"model": "dnn"}], "the name 'dnn' is there twice"),
        ([{"model": "dnn"}, {"model": "lstm", "name": "dnn"}], "the name 'dnn' is there twice"),
        ([{"model": "dnn", "keep": 100}], "dnn have `keep`; at least one ranker without it"),
        (
            [{"model": "dnn", "keep": 100}, {"model": "lstm", "keep": 50}, {"model": "main"}],
            r"keep differs \(dnn: 100, lstm: 50\)",
        ),
        (
            [{"model": "dnn", "keep": 19}, {"model": "main"}],
            "keep of dnn is 19; it must be at least contract",
        ),
        ([{"model": "dnn", "keep": 500}, {"model": "main"}], "less than contract.candidates, 500"),
    ],
)
def test_a_list_that_cannot_be_served_is_refused(rankers: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(*rankers)
