"""Plans are made once, reused while they fit, and never taken for what they are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tools.plans.cache import PlanCache, PlanFacts, PlanUnfit
from tools.plans.library import RTX, TENSORRT

RELEASE = "0123456789ab"
FACTS = PlanFacts("retrieve", RELEASE, "fp16", "9.0", TENSORRT, "10.16.0.72", "f00d", 8, 64)
ROOT = Path(__file__).parents[3]

BUILDING = """
import sys, time
from pathlib import Path
from tools.plans.cache import PlanCache, PlanFacts

def build():
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    print("building", flush=True)
    time.sleep(float(sys.argv[3]))
    return b"the plan"

facts = PlanFacts("retrieve", "0123456789ab", "fp16", "9.0", "tensorrt", "10.16.0.72", "f00d", 8, 64)
plan, made = PlanCache(Path(sys.argv[1])).get(facts, build)
print(plan.path.read_bytes().decode(), made, flush=True)
"""


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


def unexpected() -> bytes:
    raise AssertionError("a plan that fits is there, and another one was made")


def builder_process(cache: PlanCache, log: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDING, str(cache.folder), str(log), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients'}"},
    )


def test_a_plan_lies_under_its_release_its_library_and_what_it_is_for(cache: PlanCache) -> None:
    plan, made = cache.get(FACTS, lambda: b"the plan")

    assert made
    place = cache.folder / RELEASE / "tensorrt-10.16.0.72" / "retrieve_sm90_fp16.plan"
    assert plan.path == place
    assert place.read_bytes() == b"the plan"
    facts = json.loads(place.with_suffix(".json").read_text())
    assert (facts["capability"], facts["graph"], facts["bytes"]) == ("9.0", "f00d", 8)


def test_a_plan_that_fits_is_reused(cache: PlanCache) -> None:
    first, _ = cache.get(FACTS, lambda: b"the plan")

    assert cache.get(FACTS, unexpected) == (first, False)
    assert cache.find(FACTS) == first


@pytest.mark.parametrize(("field", "value"), [("graph", "beef"), ("optimum_batch", 16), ("most_rows", 32)])
def test_a_plan_of_another_graph_or_for_other_batches_is_named_and_made_anew(
    cache: PlanCache, field: str, value: object
) -> None:
    cache.get(FACTS, lambda: b"the plan")
    other = replace(FACTS, **{field: value})

    with pytest.raises(
        PlanUnfit, match=rf"retrieve_sm90_fp16\.plan: was made for {field} {getattr(FACTS, field)}"
    ):
        cache.find(other)
    plan, made = cache.get(other, lambda: b"another plan")
    assert made
    assert plan.path.read_bytes() == b"another plan"


@pytest.mark.parametrize(
    ("field", "value"), [("capability", "8.9"), ("version", "10.15.1.29"), ("precision", "fp32")]
)
def test_plans_for_other_cards_versions_and_precisions_stay_beside_each_other(
    cache: PlanCache, field: str, value: str
) -> None:
    cache.get(FACTS, lambda: b"the plan")
    cache.get(replace(FACTS, **{field: value}), lambda: b"another plan")

    assert cache.find(FACTS).path.read_bytes() == b"the plan"
    assert len(cache.plans(RELEASE)) == 2


def test_a_missing_plan_is_told_with_those_that_are_there(cache: PlanCache) -> None:
    cache.get(replace(FACTS, capability="8.9"), lambda: b"the plan")

    with pytest.raises(
        PlanUnfit,
        match=r"sm90_fp16\.plan: is missing; there is retrieve_sm89_fp16\.plan by tensorrt 10\.16\.0\.72",
    ):
        cache.find(FACTS)


def test_a_plan_that_was_copied_to_another_cards_place_is_refused_by_name(cache: PlanCache) -> None:
    plan, _ = cache.get(replace(FACTS, capability="8.9"), lambda: b"the plan")
    for path in (plan.path, plan.path.with_suffix(".json")):
        path.rename(path.with_name(path.name.replace("sm89", "sm90")))

    with pytest.raises(PlanUnfit, match=r"sm90_fp16\.plan: was made for capability 8\.9; here it is 9\.0"):
        cache.find(FACTS)


def test_a_plan_whose_bytes_changed_is_refused_by_name_and_made_anew(cache: PlanCache) -> None:
    plan, _ = cache.get(FACTS, lambda: b"the plan")
    plan.path.write_bytes(b"the plaN")

    with pytest.raises(PlanUnfit, match=r"retrieve_sm90_fp16\.plan: is not as it was written"):
        cache.find(FACTS)
    assert cache.get(FACTS, lambda: b"the plan")[1]
    assert cache.find(FACTS).path.read_bytes() == b"the plan"


@pytest.mark.parametrize("content", [None, "", "{}", '{"stage": "retrieve"}', "[1]"])
def test_a_plan_that_nothing_describes_is_refused_and_made_anew(
    cache: PlanCache, content: str | None
) -> None:
    plan, _ = cache.get(FACTS, lambda: b"the plan")
    note = plan.path.with_suffix(".json")
    note.unlink() if content is None else note.write_text(content)

    with pytest.raises(PlanUnfit, match=r"retrieve_sm90_fp16\.json does not say what it was made from"):
        cache.find(FACTS)
    assert cache.get(FACTS, lambda: b"the plan")[1]


def test_what_tensorrt_for_rtx_made_is_never_a_plan_to_serve(cache: PlanCache) -> None:
    plan, _ = cache.get(replace(FACTS, library=RTX), lambda: b"an engine")
    place = cache.folder / FACTS.path
    place.parent.mkdir(parents=True)
    for path in (plan.path, plan.path.with_suffix(".json")):
        path.rename(place.with_suffix(path.suffix))

    with pytest.raises(PlanUnfit, match=r"tensorrt_rtx made it, whose engines Triton cannot load"):
        cache.find(FACTS)


def test_two_processes_that_need_the_same_plan_make_it_once(cache: PlanCache, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [builder_process(cache, log, 0.5) for _ in range(2)]
    answers = sorted(process.communicate(timeout=60)[0].splitlines()[-1] for process in processes)

    assert answers == ["the plan False", "the plan True"]
    assert log.read_text() == "built\n"


def test_who_waits_for_somebody_elses_plan_is_told_so(cache: PlanCache) -> None:
    building, told, lines = threading.Event(), threading.Event(), []

    def build() -> bytes:
        building.set()
        assert told.wait(30)
        return b"the plan"

    def say(line: str) -> None:
        lines.append(line)
        told.set()

    thread = threading.Thread(target=cache.get, args=(FACTS, build))
    thread.start()
    assert building.wait(30)
    assert not cache.get(FACTS, unexpected, say=say)[1]
    thread.join()
    assert lines == ["somebody else is making retrieve_sm90_fp16.plan; waiting for it"]


def test_a_builder_that_is_killed_leaves_no_plan_and_keeps_nobody_from_making_it(
    cache: PlanCache, tmp_path: Path
) -> None:
    process = builder_process(cache, tmp_path / "log", 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert cache.plans(RELEASE) == []
    # As after a kill while the file was written.
    leftover = (cache.folder / FACTS.path).with_name(f".{FACTS.path.name}.12345")
    leftover.write_bytes(b"half a pl")
    begin = time.monotonic()
    assert cache.get(FACTS, lambda: b"the plan")[1]
    assert time.monotonic() - begin < 10
    assert sorted(path.suffix for path in leftover.parent.iterdir()) == [".json", ".lock", ".plan"]


def test_a_builder_that_fails_leaves_what_was_there(cache: PlanCache) -> None:
    def fail() -> bytes:
        raise RuntimeError("no memory on the card")

    with pytest.raises(RuntimeError, match="no memory"):
        cache.get(FACTS, fail)
    assert cache.plans(RELEASE) == []
    assert cache.get(FACTS, lambda: b"the plan")[1]
