"""The command that a GPU node starts with."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_release import make_empty_graphs, make_plan_release
from toy_release import make_release

from tools import make_plans
from tools.plans.building import check_graphs
from tools.plans.capability import Capability
from tools.plans.graphs import Graphs
from tools.plans.library import Library

RELEASE = "0123456789ab"


def test_a_check_compiles_every_graph_and_keeps_nothing(
    graphs: dict[str, Graphs], only_rtx: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    build = graphs["fp16"].release.path.parent.parent

    assert make_plans.main(["--build", str(build), "--check", "--capability", "8.9"]) == 0
    output = capsys.readouterr().out
    assert f"compiling release {RELEASE}, fp16, batches of 1 to 64, by tensorrt_rtx" in output
    assert "retrieve for compute capability 8.9" in output
    assert "rank for compute capability 8.9" in output
    assert not (build / "plans").exists()


def test_a_build_checks_the_cards_that_its_precision_is_for(
    graphs: dict[str, Graphs], only_rtx: Library
) -> None:
    assert check_graphs(graphs["fp8"], only_rtx) == [Capability(8, 9), Capability(12, 0)]


def test_without_tensorrt_itself_no_plan_is_made_and_one_line_says_so(
    graphs: dict[str, Graphs], only_rtx: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    build = graphs["fp16"].release.path.parent.parent

    assert make_plans.main(["--build", str(build), "--capability", "8.9"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("make_plans.py: tensorrt_rtx 1.7.1")
    assert "makes engines that Triton cannot load" in error
    assert error.count("\n") == 1
    assert not list(build.rglob("*.plan"))


def test_a_graph_that_is_refused_fails_the_command(
    only_rtx: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan_release(tmp_path, RELEASE, make_empty_graphs(tmp_path / "graphs"), "fp16")

    assert make_plans.main(["--build", str(tmp_path), "--check", "--capability", "8.9"]) == 1
    assert "makes no plan of retrieve in fp16 for compute capability 8.9" in capsys.readouterr().err


def test_a_card_that_the_library_does_not_know_fails_the_command_by_name(
    graphs: dict[str, Graphs], only_rtx: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    build = graphs["fp16"].release.path.parent.parent

    assert make_plans.main(["--build", str(build), "--check", "--capability", "9.0"]) == 1
    assert "does not compile for compute capability 9.0" in capsys.readouterr().err


def test_a_release_without_graphs_for_tensorrt_is_named_with_what_builds_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_release(tmp_path, RELEASE)

    assert make_plans.main(["--build", str(tmp_path), "--check"]) == 1
    error = capsys.readouterr().err
    assert f"release {RELEASE} has no artifacts/gpu/retrieve.onnx" in error
    assert "python tools/build_repo.py --config YOURS.toml --profile gpu" in error


def test_the_release_is_the_one_that_was_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = tmp_path / "release"
    note.write_text("ffffffffffff\n")
    make_release(tmp_path, RELEASE)

    assert make_plans.main(["--build", str(tmp_path), "--release-file", str(note)]) == 2
    assert f"no release ffffffffffff in {tmp_path / 'releases'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--capability", "hopper"], "compute capability 'hopper'; allowed is"),
        (["--capability", "8.9", "--capability", "9.0"], "several capabilities are for --check"),
        (["--release", "a", "--release-file", "b"], "not allowed with argument"),
    ],
)
def test_bad_usage_is_told(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        make_plans.main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_server_of_another_profile_needs_no_plans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_plans.main(["--build", str(tmp_path), "--profile", "gpu_torch"]) == 0
    assert capsys.readouterr().out == "profile gpu_torch needs no plans\n"
