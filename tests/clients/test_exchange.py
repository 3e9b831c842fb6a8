"""The course of a call, step by step, with a clock of our own and no network."""

from __future__ import annotations

import pytest
from play import GONE, SHAPE, SLOW, Play, answer, shape_of
from tritonrec_client import (
    DeadlineExceeded,
    InvalidRequest,
    RecommendError,
    Request,
    ServerError,
    Timeout,
    Unavailable,
)
from tritonrec_client.course import Failure, Infer, ReadShape


def test_the_first_call_reads_the_model_s_shape_and_later_ones_do_not() -> None:
    play = Play()
    play.recommend(SHAPE, answer())
    assert [type(step) for step in play.steps] == [ReadShape, Infer]
    play.recommend(answer())
    assert [type(step) for step in play.steps] == [Infer]


def test_each_server_s_own_shape_is_used_because_two_releases_may_run_at_once() -> None:
    play = Play("ab").know(a=SHAPE, b=shape_of(session=5, results=2))
    widths = []
    for _ in range(2):
        play.recommend(answer())
        (step,) = play.steps
        assert isinstance(step, Infer)
        widths.append(step.inputs["session_items"].shape[1])
    assert widths == [3, 5]


def test_no_requests_need_no_server() -> None:
    play = Play()
    assert play.run(play.exchange.recommend([], None)) == []
    assert play.steps == []


def test_an_attempt_gets_all_that_is_left_of_the_total() -> None:
    play = Play(timeout=Timeout(total=1.0)).know()
    play.recommend((0.3, GONE), answer(), timeout=2.0)
    first, _, second = play.steps
    assert isinstance(first, Infer)
    assert isinstance(second, Infer)
    assert first.timeout == pytest.approx(2.0)
    assert second.timeout == pytest.approx(2.0 - 0.3 - play.pauses[0])


def test_an_attempt_s_own_limit_leaves_time_for_another_server() -> None:
    play = Play("ab", Timeout(total=1.0, attempt=0.4)).know()
    play.recommend((0.4, SLOW), (0.1, answer()))
    assert play.asked == "ab"
    assert [round(step.timeout, 3) for step in play.steps if isinstance(step, Infer)] == [0.4, 0.4]


def test_an_unavailable_server_is_followed_by_the_next_one_at_once() -> None:
    play = Play("ab").know()
    play.recommend(GONE, answer())
    assert play.asked == "ab"
    assert play.pauses == []


def test_the_next_calls_pass_the_failed_server_over_for_a_while() -> None:
    play = Play("ab", set_aside=2.0).know()
    play.recommend(GONE, answer())
    for _ in range(3):
        play.recommend(answer())
        assert play.asked == "b"
    play.now += 2.1
    play.recommend(answer())
    assert play.asked == "a"


def test_where_nobody_else_is_left_the_pauses_grow() -> None:
    play = Play(attempts=4, backoff=0.1, longest=9.0).know()
    play.recommend(GONE, GONE, GONE, answer())
    assert play.pauses == pytest.approx([0.05, 0.1, 0.2])


def test_after_the_allowed_attempts_the_call_ends_with_the_last_words() -> None:
    play = Play("ab", attempts=3).know()
    with pytest.raises(Unavailable, match=r"at a, b \(3 attempts, last: a: connection refused\)"):
        play.recommend(GONE, GONE, GONE)


def test_a_pause_that_does_not_fit_into_the_deadline_is_not_waited_for() -> None:
    play = Play(timeout=Timeout(0.5), backoff=2.0, longest=2.0, attempts=9).know()
    with pytest.raises(Unavailable):
        play.recommend((0.1, GONE))
    assert play.pauses == []


def test_no_attempt_is_made_past_the_deadline() -> None:
    play = Play("ab", Timeout(0.5)).know()
    with pytest.raises(DeadlineExceeded, match=r"1 attempt, last: a: connection refused"):
        play.recommend((0.6, GONE))
    assert play.asked == "a"


def test_a_passed_deadline_is_named_with_its_length() -> None:
    play = Play(timeout=Timeout(0.5)).know()
    with pytest.raises(DeadlineExceeded, match=r"within 0.5 s \(1 attempt, last: a: Deadline Exceeded\)"):
        play.recommend((0.5, SLOW))


def test_a_server_that_hung_is_set_aside_too() -> None:
    play = Play("ab", Timeout(0.5)).know()
    with pytest.raises(DeadlineExceeded):
        play.recommend((0.5, SLOW))
    for _ in range(2):
        play.recommend(answer())
        assert play.asked == "b"


def test_reading_the_shape_counts_against_the_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match="before the request was sent"):
        Play(timeout=Timeout(0.5)).recommend((0.4999, SHAPE))


@pytest.mark.parametrize(
    "status", ["INTERNAL", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "UNKNOWN"]
)
def test_other_failures_are_not_repeated_and_keep_the_server_s_words(status: str) -> None:
    play = Play("ab").know()
    with pytest.raises(ServerError, match=f"a answered {status}: because") as error:
        play.recommend(Failure(status, "because"))
    assert error.value.status == status


def test_a_status_named_in_the_options_is_repeated() -> None:
    play = Play(statuses=frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})).know()
    assert play.recommend(Failure("RESOURCE_EXHAUSTED", "rate"), answer())
    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED"):
        play.recommend(*[Failure("RESOURCE_EXHAUSTED", "rate")] * 3)


def test_a_stage_s_refusal_arrives_with_its_field_and_range() -> None:
    play = Play().know()
    words = "in ensemble 'recommend', diversity: found nan; allowed is a number from 0 to 1"
    with pytest.raises(InvalidRequest) as error:
        play.recommend(Failure("INVALID_ARGUMENT", words), SHAPE)
    assert (error.value.field, error.value.found) == ("diversity", "nan")
    assert error.value.allowed == "a number from 0 to 1"


def test_where_a_release_with_other_widths_took_over_the_request_is_stacked_anew() -> None:
    play = Play().know()
    wider = shape_of(session=6, results=4)
    play.recommend(Failure("INVALID_ARGUMENT", "unexpected shape for input"), wider, answer(results=4))
    assert [type(step) for step in play.steps] == [Infer, ReadShape, Infer]
    last = play.steps[-1]
    assert isinstance(last, Infer)
    assert last.inputs["session_items"].shape == (1, 6)


def test_a_count_beyond_the_page_is_refused_only_after_a_second_look_at_the_page() -> None:
    play = Play().know()
    with pytest.raises(InvalidRequest, match="count: found 3; allowed is an integer from 1 to 2"):
        play.recommend(SHAPE, request=Request(count=3))
    assert play.asked == ""
    wider = shape_of(session=3, results=4)
    (page,) = play.recommend(wider, answer(results=4), request=Request(count=3))
    assert len(page.items) == 3


def test_an_answer_without_the_contract_s_outputs_is_no_page() -> None:
    outputs = answer()
    del outputs["status"]
    with pytest.raises(ServerError, match="the answer of 'recommend' lacks status"):
        Play().know().recommend(outputs)


def test_connecting_succeeds_when_one_server_answers_and_sets_the_others_aside() -> None:
    play = Play("abc")
    play.connect(GONE, SHAPE, SLOW)
    play.recommend(answer())
    assert play.asked == "b"


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ((GONE, GONE), Unavailable),
        ((GONE, SLOW), DeadlineExceeded),
        ((GONE, Failure("NOT_FOUND", "x")), ServerError),
    ],
)
def test_connecting_fails_when_no_server_answers(
    replies: tuple[Failure, ...], expected: type[RecommendError]
) -> None:
    with pytest.raises(expected):
        Play("ab").connect(*replies)


def test_connecting_shares_the_deadline_among_the_servers() -> None:
    play = Play("abc", Timeout(3.0))
    play.connect((1.0, SLOW), (0.0, SHAPE), (0.0, SHAPE))
    limits = [step.timeout for step in play.steps if isinstance(step, ReadShape)]
    assert limits == pytest.approx([1.0, 1.0, 2.0])
