"""One graph to one plan: parsed, given the sizes of its batches and its release's name, compiled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonrec_client.contract import MODELS, Sizes, Tensor, release_tensor, release_to_wire

from tools.plans.capability import Capability
from tools.plans.library import Library

DTYPES = {"INT32": "INT32", "INT64": "INT64", "FP32": "FLOAT"}
"""The contract's types as TensorRT calls them."""

FP8_FROM = Capability(8, 9)
"""The first capability with 8-bit floats."""


class PlanRefused(RuntimeError):
    """TensorRT does not take a graph, or makes no plan for a card; the message says what it objects to."""


@dataclass(frozen=True)
class Recipe:
    """What a plan is made from and for.

    `graph` is the ONNX file of `stage` in the release named `release`, whose widths are `sizes`; the plan
    takes batches of 1 to `most_rows` rows and is fastest at `optimum_batch`.
    """

    graph: Path
    stage: str
    release: str
    sizes: Sizes
    precision: str
    optimum_batch: int
    most_rows: int


def build_plan(
    library: Library, recipe: Recipe, capability: Capability, *, timing: Path | None = None
) -> bytes:
    """The plan of `recipe` for cards of `capability`.

    TensorRT tries kernels on the card that is here, and remembers in the file `timing` how fast they were;
    TensorRT for RTX compiles for any card that it knows, and tries them where the engine runs. Raises
    PlanRefused.
    """
    require_supported(library, capability, recipe.precision)
    trt = library.module
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    # The parser holds the file's weights, which the network only points at.
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(recipe.graph)):
        errors = [str(parser.get_error(place)) for place in range(parser.num_errors)]
        raise PlanRefused(_refusal(library, recipe, capability, errors))
    constants = _add_release(trt, network, recipe)
    _require_contract(trt, network, recipe)
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, network, recipe))
    if not library.ships:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability.sm.upper()), 0)
    elif timing is not None:
        known = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
        if known is None or not config.set_timing_cache(known, False):
            # Damaged, or of another driver: measured anew.
            config.set_timing_cache(config.create_timing_cache(b""), False)
    plan = builder.build_serialized_network(network, config)
    del constants  # until here the network pointed at them
    if plan is None:
        raise PlanRefused(_refusal(library, recipe, capability, log.errors))
    if library.ships and timing is not None:
        write_whole(timing, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def require_supported(library: Library, capability: Capability, precision: str) -> None:
    """Raise PlanRefused where no plan can be made for `capability` in `precision` by `library`."""
    if precision == "fp8" and capability < FP8_FROM:
        raise PlanRefused(
            f"compute capability {capability} has no 8-bit floats, which {FP8_FROM} and later have:"
            " set gpu.precision to int8"
        )
    named = library.named_capabilities
    if named is not None and capability not in named:
        known = ", ".join(map(str, named))
        raise PlanRefused(
            f"{library} does not compile for compute capability {capability}, only for {known};"
            " TensorRT itself, on a machine with such a card, does"
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write `path` in one step: whoever reads it sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _log(trt: Any) -> Any:
    """A logger that keeps errors, for the message of the one exception that they end in."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def _profile(builder: Any, network: Any, recipe: Recipe) -> Any:
    """The range of shapes that every input takes; only the batch is free, widths are the contract's."""
    profile = builder.create_optimization_profile()
    rows = (1, min(recipe.optimum_batch, recipe.most_rows), recipe.most_rows)
    for tensor in MODELS[recipe.stage].inputs:
        width = tensor.resolve(recipe.sizes)
        profile.set_shape(tensor.name, *((count, width) for count in rows))
    return profile


def _add_release(trt: Any, network: Any, recipe: Recipe) -> list[Any]:
    """Give `network` the output that names the release, INT64 ``[B, 1]``.

    The graph cannot hold it: a release's name is made of the hashes of its files. Returns the arrays that
    the network points at.
    """
    one = np.ones(1, np.int64)
    name = np.array([[release_to_wire(recipe.release)]], np.int64)
    batch = network.add_slice(network.add_shape(network.get_input(0)).get_output(0), [0], [1], [1])
    width = network.add_constant([1], trt.Weights(one))
    shape = network.add_concatenation([batch.get_output(0), width.get_output(0)])
    # A slice that stays where it is repeats the one number for every row.
    rows = network.add_slice(
        network.add_constant([1, 1], trt.Weights(name)).get_output(0), [0, 0], [0, 0], [0, 0]
    )
    rows.set_input(2, shape.get_output(0))
    output = rows.get_output(0)
    output.name = release_tensor(recipe.stage).name
    network.mark_output(output)
    return [one, name]


def _require_contract(trt: Any, network: Any, recipe: Recipe) -> None:
    """Raise PlanRefused where the network's inputs and outputs are not those of the contract."""
    model = MODELS[recipe.stage]
    found = {
        tensor.name: (tensor.dtype, tuple(tensor.shape))
        for tensors, count in (
            (network.get_input, network.num_inputs),
            (network.get_output, network.num_outputs),
        )
        for tensor in map(tensors, range(count))
    }

    def promised(tensors: Sequence[Tensor]) -> dict[str, Any]:
        return {
            each.name: (getattr(trt.DataType, DTYPES[each.dtype]), (-1, each.resolve(recipe.sizes)))
            for each in tensors
        }

    wanted = promised((*model.inputs, *model.outputs))
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise PlanRefused(
                f"{recipe.graph.name}: {name} is {found.get(name, 'missing')}; by the contract it is"
                f" {wanted.get(name, 'nothing')}"
            )


def _refusal(library: Library, recipe: Recipe, capability: Capability, errors: Sequence[str]) -> str:
    reason = " | ".join(error.strip() for error in errors) or "it does not say why"
    return (
        f"{library} makes no plan of {recipe.stage} in {recipe.precision} for compute capability"
        f" {capability}: {reason}"
    )
