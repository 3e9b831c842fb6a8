from __future__ import annotations

import pytest

from tools.load.recording import RECORD_EVENT, Tally
from tools.load.slo import Slo, SloError


def tally(answers: int = 100, failed: int = 0, skipped: int = 0) -> Tally:
    """Answers after 1, 2, 3, … ms."""
    made = Tally(skipped=skipped)
    for number in range(answers):
        made.latency.add(number + 1.0)
    made.errors["UNAVAILABLE"] = failed
    return made


def held(text: str, **counts: int) -> bool:
    return all(verdict.holds for verdict in Slo.parse(text).judge({"recommend": tally(**counts)}))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99=99.5ms", True),
        ("p99=98ms", False),
        ("p99=0.0995s", True),
        ("p50=50100us", True),
        ("p99.9=100.1ms,max=101ms,mean=51ms", True),
        ("mean=50ms", False),
        ("max=99ms", False),
        (" p50 = 51ms , errors=0 ,", True),
    ],
)
def test_a_limit_holds_or_not(text: str, holds: bool) -> None:
    assert held(text) is holds


def test_every_limit_must_hold_and_the_verdict_says_which_did_not() -> None:
    verdicts = Slo.parse("p50=60ms,p99=30ms,errors=0").judge({"recommend": tally(failed=1)})
    assert [verdict.holds for verdict in verdicts] == [True, False, False, True]
    assert str(verdicts[1]).startswith("p99=30ms: MISSED, ")
    assert str(verdicts[2]) == "errors=0: MISSED, 1"
    assert str(verdicts[0]).startswith("p50=60ms: held, 5")


def test_errors_and_skipped_are_counts_or_shares() -> None:
    assert held("errors=2", failed=2)
    assert not held("errors=1", failed=2)
    assert held("errors=2%", answers=98, failed=2)
    assert not held("errors=1.9%", answers=98, failed=2)
    assert held("skipped=10%", answers=90, skipped=10)


def test_refusing_requests_makes_no_percentile_better() -> None:
    assert held("p50=51ms,errors=100%")
    assert not held("p99=1000ms,errors=100%", failed=5)
    assert held("p90=1000ms,errors=100%", failed=5)
    assert not held("mean=1000ms,errors=100%", failed=5)


def test_skipped_arrivals_miss_the_objective_unless_it_allows_them() -> None:
    assert not held("p50=90ms,errors=0", skipped=1)
    assert held("p50=90ms,errors=0,skipped=1", skipped=1)


def test_nothing_measured_is_not_held() -> None:
    assert not all(verdict.holds for verdict in Slo.parse("p99=1s").judge({}))


def test_a_limit_may_be_one_of_recording_events() -> None:
    slo = Slo.parse("p99=99.5ms,record_event:p99=20ms,record_event:errors=0")
    verdicts = slo.judge({"recommend": tally(), RECORD_EVENT: tally(answers=10)})
    assert [verdict.holds for verdict in verdicts] == [True, True, True, True]
    verdicts = slo.judge({"recommend": tally(), RECORD_EVENT: tally(answers=30)})
    assert [verdict.holds for verdict in verdicts] == [True, False, True, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found nothing"),
        ("p99", "found 'p99'"),
        ("p99=30", "found no unit in 'p99=30'; p99 takes us, ms or s"),
        ("p99=30m", "found the unit 'm'"),
        ("p101=3ms", "found 'p101'"),
        ("p0=3ms", "found 'p0'"),
        ("latency=3ms", "found 'latency'"),
        ("errors=3ms", "errors takes a count or %"),
        ("p99=-3ms", "found 'p99=-3ms'"),
        ("p99=1.2.3ms", "that is no number"),
        ("p99=3ms,p99=4ms", "p99 is limited twice"),
        ("forget_user:p99=3ms", "found 'forget_user'"),
    ],
)
def test_what_is_no_objective_is_refused_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(SloError, match="SLO: ") as refused:
        Slo.parse(text)
    assert words in str(refused.value)
