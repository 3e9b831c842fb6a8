"""Weights of fewer bits in an ONNX graph: what a network that is strongly typed must say itself.

A weight is stored as 8-bit codes and a scale for each output channel, and a DequantizeLinear node makes
numbers of it on the way to its product; what flows through the graph stays what it is. That halves what is
read from memory, which is what a product with few rows waits for. (Weight-only quantisation; see "Working
with quantized types" in TensorRT's guide.)
"""

from __future__ import annotations

from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Codes = Literal["int8", "fp8"]
GREATEST: dict[Codes, float] = {"int8": 127.0, "fp8": 448.0}
"""The greatest code. FP8 is E4M3 without infinities (Micikevicius et al. 2022,
https://arxiv.org/abs/2209.05433)."""

SMALL = 1024
"""Weights of fewer numbers stay what they are: there is nothing to win."""

FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
PRODUCTS = {"MatMul": 1}
"""Operators, and which input of each is a weight; what torch exports has no others."""


def quantise_weights(model: onnx.ModelProto, codes: Codes, *, small: int = SMALL) -> int:
    """Give the weights of `model`'s matrix products 8-bit `codes`; how many weights were given them.

    A weight is a constant matrix of `small` numbers or more, or such a constant transposed. `model` is
    changed; who else reads the constant keeps the old one.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    decoders: dict[tuple[str, int], onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        place = PRODUCTS[node.op_type]
        reader, name, axis = node, node.input[place], 1
        maker = makers.get(name)
        if maker is not None and maker.op_type == "Transpose":
            reader, place, name, axis = maker, 0, maker.input[0], 0
        tensor = constants.get(name)
        if tensor is None or len(tensor.dims) != 2 or tensor.data_type not in FLOATS:
            continue
        if int(np.prod(tensor.dims)) < small:
            continue
        if (name, axis) not in decoders:
            decoders[name, axis] = _decoder(model, tensor, axis, codes)
        reader.input[place] = decoders[name, axis].output[0]
    nodes = [*decoders.values(), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return len(decoders)


def _decoder(model: onnx.ModelProto, tensor: onnx.TensorProto, axis: int, codes: Codes) -> onnx.NodeProto:
    """A node that gives the weights of `tensor`; its codes and its scales along `axis` join the constants."""
    weights = numpy_helper.to_array(tensor)
    scales, coded = encode(weights, axis, codes)
    names = [f"{tensor.name}.{axis}.{kind}" for kind in ("codes", "scales", "weights")]
    for name, array in zip(names, (coded, scales), strict=False):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return helper.make_node("DequantizeLinear", names[:2], names[2:], axis=axis)


def encode(weights: NDArray[Any], axis: int, codes: Codes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scales, as wide as `weights`, one for each place along `axis`, and codes; their product is `weights`.

    A channel's greatest weight has the greatest code, so no weight is cut off.
    """
    wide = weights.astype(np.float32)
    greatest = np.abs(wide).max(axis=1 - axis, keepdims=True)
    scales = (greatest / GREATEST[codes]).astype(weights.dtype)
    # A channel of zeros, or of numbers so small that their scale is rounded to zero, has codes of zero.
    scales = np.where(scales > 0, scales, np.ones_like(scales))
    exact = (wide / scales.astype(np.float32)).clip(-GREATEST[codes], GREATEST[codes])
    coded = np.rint(exact).astype(np.int8) if codes == "int8" else exact.astype(ml_dtypes.float8_e4m3fn)
    return scales.reshape(-1), coded
