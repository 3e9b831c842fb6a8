"""The integer product of an item's codes and a query, 256 bits at a time.

A compiler that makes vectors of a plain loop takes as many values at once as 32-bit sums fit into a register:
eight, so that products of 16-bit values fill half of one. Spelled out as products of sixteen whose neighbours
are added, they become one instruction for all sixteen (x86's pmaddwd, or VNNI's vpdpwssd), which takes two
thirds of the time with AVX2. LLVM makes something right of it on every processor.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

AT_ONCE = 16
"""Products that are one vector."""

_NUMBER = ir.IntType(32)
_PRODUCTS = ir.VectorType(_NUMBER, AT_ONCE)
_SUMS = ir.VectorType(_NUMBER, AT_ONCE // 2)


def _dot(typing: Any, codes: Any, query: Any, width: Any) -> Any:
    """The type of `dot` for arguments of these types, and what generates its code."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    count = width.literal_value

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointers = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
        ]
        total = ir.Constant(_NUMBER, 0)
        whole = count // AT_ONCE
        if whole:
            parts = [
                _neighbours(builder, *(_loaded(builder, pointer, part) for pointer in pointers))
                for part in range(whole)
            ]
            sums = parts[0]
            for part in parts[1:]:
                sums = builder.add(sums, part)
            adds = ir.FunctionType(_NUMBER, [_SUMS])
            name = f"llvm.vector.reduce.add.v{_SUMS.count}i32"
            reduce = get_or_insert_function(builder.module, adds, name)  # type: ignore[no-untyped-call]
            total = builder.call(reduce, [sums])
        for place in range(whole * AT_ONCE, count):
            one, other = (
                builder.sext(
                    builder.load(builder.gep(pointer, [ir.Constant(ir.IntType(64), place)])), _NUMBER
                )
                for pointer in pointers
            )
            total = builder.add(total, builder.mul(one, other))
        return total

    return types.int32(codes, query, width), generate


dot: Any = intrinsic(prefer_literal=True)(_dot)
"""``dot(codes, query, width)``, for compiled loops: the int32 sum of the products of `codes` int8 and `query`
int16, both ``[width]``. `width` is a constant of the loop. Nobody looks whether both are that long."""


def _loaded(builder: ir.IRBuilder, pointer: Any, part: int) -> Any:
    """Part number `part` of an array as a vector of 32-bit integers."""
    element = pointer.type.pointee
    vectors = builder.bitcast(pointer, ir.VectorType(element, AT_ONCE).as_pointer())
    vector = builder.load(builder.gep(vectors, [ir.Constant(ir.IntType(64), part)]))
    vector.align = element.width // 8  # rows begin anywhere
    return builder.sext(vector, _PRODUCTS)


def _neighbours(builder: ir.IRBuilder, codes: Any, query: Any) -> Any:
    """Products, those of two neighbours added."""
    products = builder.mul(codes, query)
    nothing = ir.Constant(_PRODUCTS, ir.Undefined)
    even, odd = (
        builder.shuffle_vector(
            products,
            nothing,
            ir.Constant(_SUMS, [ir.Constant(_NUMBER, 2 * pair + first) for pair in range(AT_ONCE // 2)]),
        )
        for first in (0, 1)
    )
    return builder.add(even, odd)
