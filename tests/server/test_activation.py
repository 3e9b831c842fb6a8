"""Switching releases on a running server: all at once, refused for a reason, repaired after kill -9."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from switching import Callers, Site, copy_release
from tiny import Build
from tritonrec_client import Client

from python_backend.release import Release
from tools.releases.gates import Judgement, Line
from tools.releases.golden import GOLDEN
from tools.releases.manifest import read_manifest
from tools.serving.activation import STEPS, ActivationRefused, NotServed
from tools.serving.history import Activation, note_activation, read_activations
from tools.serving.lock import Busy, exclusively
from tools.serving.repository import write_served_repository
from tools.serving.server import TritonServer

pytestmark = pytest.mark.server

FIRST, SECOND = "f1f1f1f1f1f1", "5e5e5e5e5e5e"


@pytest.fixture(scope="module")
def site(tiny_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two releases that differ by their names, and a server of the first."""
    build = tmp_path_factory.mktemp("site")
    for name in (FIRST, SECOND):
        copy_release(tiny_build.release.path, build, name)
    store = {"store_url": tiny_build.config.store.url}
    write_served_repository([build / "releases" / FIRST], FIRST, build / "served", overrides=store)
    note_activation(build, Activation(FIRST, None, "serve"))
    with TritonServer(
        build / "served", log=build / "triton.log", backends=tiny_build.output / "backends"
    ) as triton:
        yield Site(build, [FIRST, SECOND], triton)


@pytest.fixture
def callers(site: Site, tiny_build: Build) -> Iterator[Callers]:
    with Callers(site.triton.address, tiny_build.known_users[:2]) as callers:
        yield callers


def failing(release: Release, active: Release | None) -> Judgement:
    line = Line("ndcg_10", 0.1, 0.2, None, "ratio ≥ 0.8", False)
    return Judgement(release.name, active and active.name, 95, (line,))


def test_two_activations_at_once_come_one_after_the_other_and_no_caller_notices_more_than_new_pages(
    site: Site, callers: Callers
) -> None:
    first, second = site.active, site.other
    waiting, said = threading.Event(), []

    def roll_back() -> None:
        def say(text: str) -> None:
            said.append(text)
            waiting.set()

        with site.control(say) as control:
            control.rollback()

    with site.control() as control:
        thread = threading.Thread(target=roll_back)
        thread.start()
        assert waiting.wait(10)
        control.activate(site.release(second), gates=failing, forced="to see it switch")
        site.assert_serves(second)
    thread.join()

    assert "waiting for it to end" in said[0]
    site.assert_serves(first)
    callers.assert_undisturbed()
    assert callers.releases == [first, second, first]
    assert [(each.release, each.previous, each.how) for each in read_activations(site.build)[-2:]] == [
        (second, first, "activate"),
        (first, second, "rollback"),
    ]
    forced = read_manifest(site.release(second).path)["forced"][-1]
    assert (forced["reason"], forced["failed"]) == ("to see it switch", ["ndcg_10"])


def change_a_byte(folder: Path) -> None:
    path = folder / "artifacts" / "rank.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def corrupt_the_graph(folder: Path) -> None:
    (folder / "artifacts" / "retrieve.onnx").write_bytes(b"no graph")


def crash_on_load(folder: Path) -> None:
    path = folder / "code" / "python_backend" / "stages" / "feature_lookup.py"
    path.write_text("raise RuntimeError('the stage is broken')\n")


def declare_a_wrong_shape(folder: Path) -> None:
    path = folder / "models" / "pipeline" / "config.pbtxt"
    before = path.read_text()
    path.write_text(re.sub(r'(name: "score"\s+data_type: TYPE_FP32\s+dims: )10', r"\g<1>9", before))
    assert path.read_text() != before


def remember_another_answer(folder: Path) -> None:
    with np.load(folder / GOLDEN) as arrays:
        golden = dict(arrays)
    golden["recommend/score"][0, 0] += 1
    np.savez_compressed(folder / GOLDEN, **golden)


def forget_the_answers(folder: Path) -> None:
    (folder / GOLDEN).unlink()


def take_another_input(folder: Path) -> None:
    path = folder / "models" / "recommend" / "config.pbtxt"
    path.write_text(path.read_text().replace('name: "diversity"', 'name: "variety"', 1))


@pytest.mark.parametrize(
    ("change", "rehash", "step", "reason"),
    [
        (change_a_byte, False, "verify", "artifacts/rank.onnx: was changed"),
        (take_another_input, True, "contract", "input diversity: release .* has it, .* does not"),
        (crash_on_load, True, "load", "RuntimeError: the stage is broken"),
        (remember_another_answer, True, "golden", r"golden requests: recommend, request 1 .*score\[0\] is"),
        pytest.param(corrupt_the_graph, True, "load", "retrieve.onnx", marks=pytest.mark.slow),
        pytest.param(declare_a_wrong_shape, True, "load", "score", marks=pytest.mark.slow),
        pytest.param(forget_the_answers, True, "golden", "golden.npz: is missing", marks=pytest.mark.slow),
    ],
)
def test_a_broken_release_is_refused_with_the_reason_and_the_old_one_never_stops_serving(
    site: Site,
    callers: Callers,
    change: Callable[[Path], object],
    rehash: bool,
    step: str,
    reason: str,
) -> None:
    active = site.active
    broken = site.break_release("bad0bad0bad0", change, rehash=rehash)
    with site.control() as control, pytest.raises(ActivationRefused, match=reason) as refused:
        control.activate(broken, forced="however bad it is" if step != "golden" else None)

    assert refused.value.step == step
    site.assert_serves(active)
    callers.assert_undisturbed()
    assert callers.releases == [active]


def test_a_release_that_fails_its_gates_is_refused_before_it_is_loaded(site: Site) -> None:
    active, said = site.active, []
    with (
        site.control(said.append) as control,
        pytest.raises(ActivationRefused, match="does not pass ndcg_10"),
    ):
        control.activate(site.release(site.other), gates=failing)

    assert "FAILED" in said[-1]
    site.assert_serves(active)


def test_an_activation_that_may_not_wait_is_refused_while_another_runs(site: Site) -> None:
    with (
        exclusively(site.served.folder),
        pytest.raises(Busy, match=r"is changing .*/served; waited 0 s"),
        exclusively(site.served.folder),
    ):
        raise AssertionError


def test_a_server_of_another_repository_is_left_alone(site: Site, tmp_path: Path) -> None:
    shutil.copytree(site.served.folder, tmp_path / "served")
    with (
        pytest.raises(NotServed, match=f"the Triton at .* does not serve {tmp_path}/served"),
        Site(tmp_path, site.names, site.triton).control(),
    ):
        raise AssertionError


def test_an_experiment_serves_two_releases_at_once_and_outlasts_a_switch(
    site: Site, callers: Callers, tiny_build: Build
) -> None:
    first, second = site.active, site.other
    arms = {"control": first, "bold": second}
    with site.control() as control:
        control.start_arms({arm: site.release(name) for arm, name in arms.items()})
        site.assert_serves(first, arms)
        control.activate(site.release(second))
        site.assert_serves(second, arms)
        for arm, name in arms.items():
            with Client(site.triton.address, model=f"recommend_{arm}", timeout=20.0) as client:
                assert client.recommend(tiny_build.known_users[0]).release == name
        control.stop_arms()

    site.assert_serves(second)
    callers.assert_undisturbed()
    assert callers.releases == [first, second]


KILL_POINTS = [(step, 0.0) for step in STEPS if step not in {"gates"}] + [("load", 0.4), ("load", 1.2)]
FAST_KILL_POINTS = {("switch", 0.0)}


@pytest.mark.parametrize(
    ("step", "seconds"),
    [
        point if point in FAST_KILL_POINTS else pytest.param(*point, marks=pytest.mark.slow)
        for point in KILL_POINTS
    ],
)
def test_the_same_command_again_repairs_what_kill_9_left(
    site: Site, callers: Callers, step: str, seconds: float
) -> None:
    first, second = site.active, site.other
    assert site.activate_and_be_killed(second, step, seconds) == -9
    with site.control() as control:
        control.activate(site.release(second))

    site.assert_serves(second)
    callers.assert_undisturbed()
    assert callers.releases in ([first, second], [second])


@pytest.mark.slow
@pytest.mark.parametrize("step", ["write", "golden", "switch", "drain"])
def test_any_other_command_repairs_too(site: Site, callers: Callers, step: str) -> None:
    first, second = site.active, site.other
    assert site.activate_and_be_killed(second, step) == -9
    with site.control() as control:
        assert control.active.name == (second if step in {"switch", "drain"} else first)
        site.assert_serves(control.active.name)
    callers.assert_undisturbed()
