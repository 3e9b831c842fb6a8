"""Experiments: what a file may say, whom it gives which arm, and whose model is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from play import GONE, RELEASE, SHAPE, Play, answer, shape_of
from tritonrec_client import Arm, Experiment, Request, ServerError
from tritonrec_client.contract import MAX_ID
from tritonrec_client.course import ABSENT_FOR, Failure, Infer
from tritonrec_client.experiment import arm_model

TOML = """
name = "wider-history"
[arms.control]
release = "0123456789ab"
weight = 9
[arms.challenger]
release = "ba9876543210"
weight = 1
"""


def experiment(*weights: float, name: str = "wider-history") -> Experiment:
    arms = (Arm(f"arm-{place}", f"{place:012x}", weight) for place, weight in enumerate(weights))
    return Experiment(name, tuple(arms))


HALVES = experiment(0.5, 0.5)
FIRST, SECOND = (
    next(user for user in range(1000) if HALVES.arm_of(user) == arm) for arm in ("arm-0", "arm-1")
)
UNLOADED = Failure("UNAVAILABLE", "Request for unknown model: 'recommend_arm-0' has no available versions")
NEVER = Failure("NOT_FOUND", "Request for unknown model: 'recommend_arm-0' is not found")


def loaded(folder: Path, text: str) -> Experiment:
    path = folder / "experiment.toml"
    path.write_text(text)
    return Experiment.load(path)


def test_a_file_gives_arms_in_its_order_with_normalised_weights(tmp_path: Path) -> None:
    assert loaded(tmp_path, TOML) == Experiment(
        "wider-history", (Arm("control", "0123456789ab", 0.9), Arm("challenger", "ba9876543210", 0.1))
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "wider-history"', "", "name: found nothing; allowed is the keys name and arms"),
        ("wider-history", "Wider History", "name: found 'Wider History'; allowed is 1 to 40 lower-case"),
        ('"wider-history"', "5", "name: found 5; allowed is 1 to 40 lower-case"),
        ("name =", "seed = 5\nname =", "seed: found an unknown key; allowed is name and arms"),
        (
            "weight = 9",
            "weigth = 9",
            "arms.control.weigth: found an unknown key; allowed is release and weight",
        ),
        ("weight = 9", "", "arms.control.weight: found nothing; allowed is the keys release and weight"),
        (
            "weight = 9",
            "weight = -1",
            "arms.control.weight: found -1; allowed is a finite number of at least 0",
        ),
        ("weight = 9", "weight = nan", "arms.control.weight: found nan; allowed is a finite number"),
        ("weight = 9", "weight = true", "arms.control.weight: found True; allowed is a finite number"),
        ("weight = 9", 'weight = "9"', "arms.control.weight: found '9'; allowed is a finite number"),
        ("0123456789ab", "latest", "arms.control.release: found 'latest'; allowed is a release's name: 12"),
        (
            "ba9876543210",
            "0123456789ab",
            "found '0123456789ab', the release of arms.control; allowed is another",
        ),
        ("[arms.control]", "[arms.Control]", "arms: found 'Control'; allowed is as an arm's name 1 to 40"),
        ("[arms.control]", "[arms.0123456789ab]", "arms: found '0123456789ab'; allowed is as an arm's name"),
        ("[arms.control]", "[arms.rank_0123456789ab]", "but nothing that ends like a release's own model"),
        ("[arms.control]", f"[arms.{'a' * 41}]", "allowed is as an arm's name 1 to 40"),
        (TOML, 'name = "x"\narms = 5', "arms: found 5; allowed is a table"),
        (TOML, 'name = "x"\n[arms]\ncontrol = 5', "arms.control: found 5; allowed is a table"),
        (TOML, TOML[: TOML.index("[arms.challenger]")], "arms: found 1 of them; allowed is two or more"),
        ("weight = 9", "weight 9", "line 5"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_name_key_and_value(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ValueError, match=r"experiment\.toml: ") as error:
        loaded(tmp_path, TOML.replace(old, new))
    assert message in str(error.value)


def test_weights_that_sum_to_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="a finite sum above 0"):
        experiment(0, 0)
    with pytest.raises(ValueError, match="a finite sum above 0"):
        experiment(1e308, 1e308)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Experiment.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"binary\.toml: is not UTF-8 text"):
        Experiment.load(tmp_path / "binary.toml")


def test_the_split_never_changes_because_users_would_change_sides() -> None:
    assert "".join(HALVES.arm_of(user)[-1] for user in range(24)) == "010011011100011111100001"


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=5).filter(any), st.integers(0, 2**62))
def test_the_shares_of_100_000_users_follow_the_weights(weights: list[int], start: int) -> None:
    users = 100_000
    trial = experiment(*weights)
    arms = [trial.arm_of(user) for user in range(start, start + users)]
    for arm in trial.arms:
        expected = arm.weight * users
        spread = 5.5 * np.sqrt(expected * (1 - arm.weight))  # five and a half standard deviations
        assert abs(arms.count(arm.name) - expected) <= spread


@given(st.integers(0, MAX_ID), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_of_two_arms_the_growing_one_keeps_all_of_its_users(user: int, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    before, after = experiment(smaller, 1 - smaller), experiment(larger, 1 - larger)
    assert before.arm_of(user) == "arm-1" or after.arm_of(user) == "arm-0"


def test_another_experiment_splits_the_same_users_independently() -> None:
    other = experiment(0.5, 0.5, name="another")
    same = sum(HALVES.arm_of(user) == other.arm_of(user) for user in range(10_000))
    assert 4_700 < same < 5_300


def test_an_arm_without_weight_has_no_users() -> None:
    for weights in ((0, 1), (1, 0), (0, 1, 0)):
        trial = experiment(*weights)
        assert {trial.arm_of(user) for user in range(1000)} == {f"arm-{weights.index(1)}"}


def test_a_user_gets_the_page_of_the_arm_and_the_page_says_so() -> None:
    play = Play(experiment=HALVES)
    (page,) = play.recommend(SHAPE, answer(), request=Request(FIRST))
    assert page.arm == "arm-0"
    assert play.models == [arm_model("arm-0")] * 2 == ["recommend_arm-0"] * 2
    (page,) = play.recommend(SHAPE, answer(), request=Request(SECOND))
    assert page.arm == "arm-1"
    assert play.models == ["recommend_arm-1"] * 2


def test_nobody_in_particular_is_in_no_arm() -> None:
    play = Play(experiment=HALVES)
    (page,) = play.recommend(SHAPE, answer())
    assert page.arm is None
    assert play.models == ["recommend"] * 2


def test_many_requests_are_one_inference_per_arm_and_keep_their_order() -> None:
    requests = [Request(SECOND, count=1), Request(FIRST), Request(), Request(SECOND), Request(FIRST, count=1)]
    play = Play(experiment=HALVES)
    pages = play.recommend_many(
        requests, *(reply for rows in (2, 2, 1) for reply in (SHAPE, answer(rows=rows)))
    )
    assert [page.arm for page in pages] == ["arm-1", "arm-0", None, "arm-1", "arm-0"]
    assert [len(page.items) for page in pages] == [1, 2, 2, 2, 1]
    assert [step.model.name for step in play.inferences] == [
        "recommend_arm-1",
        "recommend_arm-0",
        "recommend",
    ]
    assert play.inferences[1].inputs["user_id"].tolist() == [[FIRST], [FIRST]]


def test_all_arms_of_a_call_share_one_deadline() -> None:
    play = Play(experiment=HALVES)
    play.recommend_many([Request(FIRST), Request(SECOND)], SHAPE, (0.4, answer()), SHAPE, answer())
    assert [round(step.timeout, 3) for step in play.inferences] == [1.0, 0.6]


@pytest.mark.parametrize("absence", [UNLOADED, NEVER], ids=["unloaded", "never loaded"])
def test_the_end_of_an_experiment_fails_no_request(absence: Failure) -> None:
    play = Play(experiment=HALVES)
    play.recommend(SHAPE, answer(), request=Request(FIRST))
    (page,) = play.recommend(absence, SHAPE, answer(), request=Request(FIRST))
    assert page.arm is None
    assert page.release == RELEASE
    assert [type(step) for step in play.steps][-1] is Infer
    assert play.pauses == []


def test_an_arm_that_is_gone_is_not_asked_for_again_for_a_while() -> None:
    play = Play(experiment=HALVES)
    play.recommend(NEVER, SHAPE, answer(), request=Request(FIRST))
    play.recommend(answer(), request=Request(FIRST))
    assert play.models == ["recommend"]
    play.now += ABSENT_FOR
    (page,) = play.recommend(SHAPE, answer(), request=Request(FIRST))
    assert page.arm == "arm-0"


def test_each_server_s_arms_are_its_own() -> None:
    play = Play("ab", experiment=HALVES)
    pages = [
        *play.recommend(NEVER, SHAPE, answer(), request=Request(FIRST)),
        *play.recommend(SHAPE, answer(), request=Request(FIRST)),
        *play.recommend(answer(), request=Request(FIRST)),
    ]
    assert [page.arm for page in pages] == [None, "arm-0", None]


def test_a_server_that_is_stopping_has_neither_and_another_is_asked() -> None:
    play = Play("ab", experiment=HALVES).know()
    stopping = Failure("UNAVAILABLE", "Request for unknown model: 'recommend' has no available versions")
    (page,) = play.recommend(UNLOADED, stopping, SHAPE, answer(), request=Request(FIRST))
    assert page.arm == "arm-0"
    assert play.steps[-1].address == "b"  # type: ignore[union-attr]


def test_an_arm_that_fails_is_not_hidden_behind_another_release() -> None:
    play = Play(experiment=HALVES)
    with pytest.raises(ServerError, match="INTERNAL: oops"):
        play.recommend(SHAPE, Failure("INTERNAL", "oops"), request=Request(FIRST))
    (page,) = play.recommend(GONE, answer(), request=Request(FIRST))
    assert page.arm == "arm-0"


def test_a_release_with_other_widths_in_an_arm_is_stacked_for_it() -> None:
    play = Play(experiment=HALVES).know()
    play.recommend_many(
        [Request(FIRST, [1, 2, 3, 4]), Request(None, [1, 2, 3, 4])],
        shape_of(session=5),
        answer(),
        answer(),
    )
    assert [step.inputs["session_items"].shape for step in play.inferences] == [(1, 5), (1, 3)]
