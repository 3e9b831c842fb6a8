"""Plans in the served repository: linked, named for each card, and refused by name where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from plan_release import make_empty_graphs, make_plan_release
from toy_release import make_release

from tools.plans.builder import PlanRefused
from tools.plans.cache import PlanCache, PlanUnfit
from tools.plans.capability import Capability
from tools.plans.graphs import STAGES, Graphs, NoGraphsError
from tools.plans.library import RTX, TENSORRT, Library
from tools.plans.making import facts_of
from tools.plans.placing import PlanSource
from tools.serving.catalogue import remove_release
from tools.serving.model_files import read_config
from tools.serving.profiles import plans_for
from tools.serving.repository import write_served_repository
from tools.serving.served import ServedRepository
from tools.serving.wheel import ServerUnavailableError

RELEASE, NEXT = "0123456789ab", "ba9876543210"
VERSION = "10.16.0.72"


@pytest.fixture
def graphs(tmp_path: Path) -> Graphs:
    return make_plan_release(tmp_path, RELEASE, make_empty_graphs(tmp_path / "graphs"), "fp16")


@pytest.fixture
def source(tmp_path: Path) -> PlanSource:
    return PlanSource(str(tmp_path / "plans"), TENSORRT, VERSION, ("9.0",))


def make_plans(source: PlanSource, graphs: Graphs, capability: str, version: str = VERSION) -> None:
    for stage in STAGES:
        facts = facts_of(graphs, stage, Capability.parse(capability), TENSORRT, version)
        content = f"{stage} {capability} {version}".encode()
        PlanCache(Path(source.folder)).get(facts, lambda content=content: content)


def serve(graphs: Graphs, source: PlanSource | None, folder: Path) -> Path:
    write_served_repository([graphs.release.path], graphs.release.name, folder, plans=source)
    return folder


def test_each_model_names_the_plan_for_the_card_and_it_is_a_link(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    make_plans(source, graphs, "9.0")
    served = serve(graphs, source, tmp_path / "served")

    for stage in STAGES:
        model = served / f"{stage}_{RELEASE}"
        config = read_config(model / "configs" / "gpu.pbtxt")
        assert config.name == f"{stage}_{RELEASE}"
        assert config.platform == "tensorrt_plan"
        assert dict(config.cc_model_filenames) == {"9.0": "model_sm90.plan"}
        plan = model / "1" / "model_sm90.plan"
        assert plan.is_symlink()
        assert plan.read_bytes() == f"{stage} 9.0 {VERSION}".encode()


def test_no_plan_is_called_model_plan_which_any_card_would_fall_back_to(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    make_plans(source, graphs, "9.0")

    assert not list(serve(graphs, source, tmp_path / "served").rglob("model.plan"))


def test_plans_of_other_nodes_on_a_shared_volume_are_named_too(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    for capability in ("8.9", "9.0"):
        make_plans(source, graphs, capability)
    make_plans(source, graphs, "8.0", "10.15.1.29")  # an older TensorRT's is not
    config = read_config(
        serve(graphs, source, tmp_path / "served") / f"rank_{RELEASE}" / "configs" / "gpu.pbtxt"
    )

    assert dict(config.cc_model_filenames) == {"8.9": "model_sm89.plan", "9.0": "model_sm90.plan"}


def test_a_missing_plan_is_one_line_that_names_it_and_what_to_run(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    make_plans(source, graphs, "8.9")

    with pytest.raises(PlanUnfit) as refused:
        serve(graphs, source, tmp_path / "served")
    line = str(refused.value)
    assert "\n" not in line
    assert "retrieve_sm90_fp16.plan: is missing" in line
    command = f"tools/make_plans.py --build {tmp_path} --release {RELEASE} --capability 9.0"
    assert line.endswith(f"make it with: python {command}")
    assert not (tmp_path / "served").exists()


def test_a_plan_of_another_tensorrt_is_refused_before_triton_sees_it(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    make_plans(source, graphs, "9.0", "10.15.1.29")

    with pytest.raises(PlanUnfit, match=r"10\.16\.0\.72/retrieve_sm90_fp16\.plan: is missing; there is"):
        serve(graphs, source, tmp_path / "served")


def test_an_engine_of_tensorrt_for_rtx_is_never_placed(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    cache = PlanCache(Path(source.folder))
    for stage in STAGES:
        wanted = facts_of(graphs, stage, Capability(9, 0), TENSORRT, VERSION)
        plan, _ = cache.get(replace(wanted, library=RTX), lambda: b"an engine")
        place = cache.folder / wanted.path
        place.parent.mkdir(parents=True, exist_ok=True)
        for path in (plan.path, plan.path.with_suffix(".json")):
            path.rename(place.with_suffix(path.suffix))

    with pytest.raises(PlanUnfit, match="tensorrt_rtx made it, whose engines Triton cannot load"):
        serve(graphs, source, tmp_path / "served")


def test_a_release_that_was_not_built_for_it_is_refused_with_the_command_that_builds_one(
    source: PlanSource, tmp_path: Path
) -> None:
    release = make_release(tmp_path, RELEASE)

    with pytest.raises(NoGraphsError, match=r"has no artifacts/gpu/retrieve\.onnx.*--profile gpu"):
        write_served_repository([release], RELEASE, tmp_path / "served", plans=source)


def test_without_the_profile_no_model_has_a_plan_and_none_is_needed(graphs: Graphs, tmp_path: Path) -> None:
    served = serve(graphs, None, tmp_path / "served")

    assert not list(served.rglob("*.plan"))
    assert ServedRepository(served).plans is None


def test_a_release_that_is_activated_while_another_is_served_gets_its_plans_or_is_refused(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    make_plans(source, graphs, "9.0")
    served = ServedRepository(serve(graphs, source, tmp_path / "served"))
    newer = make_plan_release(tmp_path, NEXT, tmp_path / "graphs", "fp16")

    with pytest.raises(PlanUnfit, match=rf"{NEXT}.*retrieve_sm90_fp16\.plan: is missing"):
        served.put_release(newer.release)
    assert NEXT not in served.releases
    make_plans(source, newer, "9.0")
    served.put_release(newer.release)
    assert (served.folder / f"rank_{NEXT}" / "1" / "model_sm90.plan").read_bytes() == b"rank 9.0 10.16.0.72"


def test_going_back_to_a_profile_without_plans_forgets_where_they_are(
    graphs: Graphs, source: PlanSource, tmp_path: Path
) -> None:
    make_plans(source, graphs, "9.0")
    served = serve(graphs, source, tmp_path / "served")
    assert ServedRepository(served).plans == source

    serve(graphs, None, served)
    assert ServedRepository(served).plans is None


def test_only_the_profile_gpu_needs_plans_and_a_triton_that_computes_them(tmp_path: Path) -> None:
    for profile in ("local", "staged", "gpu_torch"):
        assert plans_for(profile, tmp_path) is None
    with pytest.raises(ServerUnavailableError, match="has no backend tensorrt; NVIDIA's image has"):
        plans_for("gpu", tmp_path)


def test_where_only_tensorrt_for_rtx_is_no_plan_is_looked_for(only_rtx: Library, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match="makes engines that Triton cannot load"):
        PlanSource.here(tmp_path, Capability(8, 9))


def test_plans_go_with_their_release(graphs: Graphs, source: PlanSource) -> None:
    newer = make_plan_release(graphs.release.path.parent.parent, NEXT, graphs.path("rank").parent, "fp16")
    for each in (graphs, newer):
        make_plans(source, each, "9.0")
    remove_release(graphs.release.path)

    cache = PlanCache(Path(source.folder))
    assert cache.plans(RELEASE) == []
    assert len(cache.plans(NEXT)) == 2
