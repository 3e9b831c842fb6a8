"""TensorRT really compiles both graphs, in every precision, for every card that can be had without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from toy_release import SIZES
from tritonrec_client.contract import release_to_wire

from tools.plans.builder import PlanRefused, Recipe, build_plan
from tools.plans.capability import Capability
from tools.plans.graphs import STAGES, Graphs
from tools.plans.library import Library
from tools.plans.making import recipe_of

CAPABILITIES = [Capability(8, 0), Capability(8, 9), Capability(12, 0)]
L4 = Capability(8, 9)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda each: each.sm)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_graph_compiles_for_batches_of_one_to_sixty_four(
    graphs: dict[str, Graphs], rtx: Library, stage: str, precision: str, capability: Capability
) -> None:
    recipe = recipe_of(graphs[precision], stage)

    assert (recipe.optimum_batch, recipe.most_rows) == (8, 64)
    assert build_plan(rtx, recipe, capability)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda each: each.sm)
def test_a_ranker_whose_evidence_is_a_table_compiles(
    graphs: dict[str, Graphs], pairs_graph: Path, rtx: Library, capability: Capability
) -> None:
    recipe = replace(recipe_of(graphs["fp16"], "rank"), graph=pairs_graph)

    assert build_plan(rtx, recipe, capability)


@pytest.mark.parametrize("stage", STAGES)
def test_eight_bit_floats_compile_for_a_card_that_has_them_and_are_refused_for_another(
    graphs: dict[str, Graphs], rtx: Library, stage: str
) -> None:
    recipe = recipe_of(graphs["fp8"], stage)

    assert build_plan(rtx, recipe, L4)
    with pytest.raises(PlanRefused, match=r"8\.0 has no 8-bit floats.*gpu\.precision"):
        build_plan(rtx, recipe, Capability(8, 0))


def test_a_card_that_the_library_does_not_know_is_refused_by_name(
    graphs: dict[str, Graphs], rtx: Library
) -> None:
    with pytest.raises(
        PlanRefused, match=r"does not compile for compute capability 9\.0, only for 7\.5, 8\.0"
    ):
        build_plan(rtx, recipe_of(graphs["fp32"], "rank"), Capability(9, 0))


def test_a_plan_names_its_release_so_two_releases_have_different_plans(
    graphs: dict[str, Graphs], rtx: Library
) -> None:
    recipe = recipe_of(graphs["fp32"], "rank")
    # It is a number in the code that was compiled.
    name = str(release_to_wire("0123456789ab")).encode()

    assert name in build_plan(rtx, recipe, L4)
    assert name not in build_plan(rtx, replace(recipe, release="ba9876543210"), L4)


def test_a_graph_of_other_widths_than_the_contract_is_refused_by_the_tensors_name(
    graphs: dict[str, Graphs], rtx: Library
) -> None:
    recipe = replace(recipe_of(graphs["fp32"], "retrieve"), sizes=replace(SIZES, candidates=51))

    with pytest.raises(PlanRefused, match=r"retrieve\.onnx: candidate is .*50.*by the contract.*51"):
        build_plan(rtx, recipe, L4)


def test_an_operator_that_the_library_does_not_take_is_refused_by_name(tmp_path: Path, rtx: Library) -> None:
    path = tmp_path / "rank.onnx"
    adding = helper.make_node("ScatterElements", ["data", "places", "more"], ["sum"], axis=1, reduction="add")
    row = ["batch", 4]
    graph = helper.make_graph(
        [adding],
        "evidence",
        [
            helper.make_tensor_value_info("data", TensorProto.FLOAT, row),
            helper.make_tensor_value_info("places", TensorProto.INT64, row),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, row),
        ],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, row)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    recipe = Recipe(path, "rank", "0123456789ab", SIZES, "fp32", 8, 64)

    with pytest.raises(PlanRefused, match=r"makes no plan of rank in fp32 .*ScatterElements"):
        build_plan(rtx, recipe, L4)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, rtx: Library) -> None:
    path = tmp_path / "rank.onnx"
    path.write_bytes(b"no graph")

    with pytest.raises(PlanRefused, match="makes no plan of rank"):
        build_plan(rtx, Recipe(path, "rank", "0123456789ab", SIZES, "fp32", 8, 64), L4)
