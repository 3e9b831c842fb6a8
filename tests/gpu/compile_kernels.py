"""Compile the search's kernels for compute capabilities that this machine need not have; run by a test."""

from __future__ import annotations

import sys
import warnings

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from python_backend.gpu import kernels

POINTERS = {
    "*i32": ("seen", "counts", "items", "candidate"),
    "*fp16": ("coded",),
    "*i8": ("hidden", "certain"),
    "i32": ("n", "n_seen", "rows", "tiles"),
    "fp32": ("error_of_length", "error"),
}
"""Types of arguments; all others are pointers to float32."""


def compiled(name: str, capability: int, table: str = "*fp16", warps: int = 4, **constants: int) -> int:
    """The size in bytes of the machine code of the kernel `name`."""
    kernel = getattr(kernels, name)
    types = {argument: kind for kind, arguments in POINTERS.items() for argument in arguments}
    types |= {"table": table} | dict.fromkeys(constants, "constexpr")
    signature = {argument: types.get(argument, "*fp32") for argument in kernel.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, argument in enumerate(kernel.arg_names)
        if signature[argument].startswith("*")
    }
    source = ASTSource(kernel, signature, constants, aligned)
    target = GPUTarget("cuda", capability, 32)
    return len(triton.compile(source, target=target, options={"num_warps": warps}).asm["cubin"])


def main() -> None:
    warnings.simplefilter("ignore")  # of a default of the next version
    for capability in map(int, sys.argv[1:]):
        for width in (24, 64):
            sizes = {"width": width, "columns": 64 if width == 64 else 32}
            tile = {**sizes, "tile_size": 256, "part_size": 128}
            done = [compiled("prepare", capability, **sizes, at_once=256)]
            for table, scaled in (("*fp16", False), ("*i8", True)):
                for batch in (1, 16, 64):
                    warps = 8 if batch == 64 else 4
                    done += [
                        compiled("scan", capability, table, warps=warps, **tile, batch=batch, scaled=scaled)
                    ]
                done += [
                    compiled("collect", capability, table, **tile, group=16, capacity=128, scaled=scaled)
                ]
        done += [compiled("threshold", capability, warps=16, room=1024, wanted=40)]
        done += [compiled("finish", capability, warps=16, wanted=40, capacity=128, at_once=256)]
        assert all(done)
        print(f"SM{capability}: compiled")


if __name__ == "__main__":
    main()
