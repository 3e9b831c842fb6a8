"""Memory that will be read soon: a hint to the processor, which otherwise waits for what lies far apart."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

_READ, _KEEP, _DATA = 0, 3, 1


def _prefetch(typing: Any, rows: Any, row: Any) -> Any:
    """The type of `prefetch` for arguments of these types, and what generates its code."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = builder.extract_value(array.strides, 0)
        begin = builder.gep(
            builder.bitcast(array.data, ir.IntType(8).as_pointer()), [builder.mul(arguments[1], stride)]
        )
        number = ir.IntType(32)
        hint = get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [begin.type, number, number, number]),
            "llvm.prefetch.p0i8",
        )  # type: ignore[no-untyped-call]
        builder.call(hint, [begin, *(ir.Constant(number, value) for value in (_READ, _KEEP, _DATA))])
        return context.get_dummy_value()

    return types.void(rows, types.intp), generate


prefetch: Any = intrinsic(_prefetch)
"""``prefetch(rows, row)``, for compiled loops: the beginning of ``rows[row]`` will be read. Nobody looks
whether there is such a row, and nothing happens where there is none."""
