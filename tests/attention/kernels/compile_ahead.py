"""Compiles the kernels for GPUs that are not here, and prints what they take of one: a line of JSON for each kernel.

It is a command because the tests' own process has Triton's interpreter:
`python -m tests.attention.kernels.compile_ahead sm_90 fp32`.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler as nvidia
from triton.compiler import ASTSource

from soft.attention.kernels import launches, matrices, tokens

CUOBJDUMP = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
CONSTANTS = {"span": launches.SPAN, "block_n": launches.BLOCK, "block_m": 64, "few": launches.FEW, "block_d": 32}
FLOATS = ("scale", "factor", "limit")
INPUTS = ("q", "v", "x")  # in the type of the model; all else that is a tensor is float32
TENSORS = (
    *(*INPUTS, "a", "landmarks", "sums", "weighted", "mixed", "inverse", "rest", "out"),
    *("grad", "grad_q", "grad_v", "grad_mixed", "grad_landmarks"),
)
DIVISIBLE = re.compile("d|.*_(image|token|head)")  # by 16, where the width of a head is


def variants() -> Iterator[tuple[object, bool, dict[str, int]]]:
    """Yield each kernel with `normalised` and its options, for 33 to 64 landmarks and heads of 32."""
    for kernel in (tokens.project, tokens.combine):
        yield kernel, False, launches.WARPS
    yield tokens.differentiate, False, launches.BACKWARD
    for normalised in (False, True):
        for kernel in (matrices.weigh, matrices.differentiate_weights, matrices.invert):
            yield kernel, normalised, launches.MATRIX_WARPS


def compile_kernel(kernel, normalised: bool, options: dict[str, int], capability: int, dtype: str) -> dict[str, object]:
    """Return the registers, spilled bytes and shared memory of a kernel."""
    constants, signature, hints = {**CONSTANTS, **options, "normalised": normalised}, {}, {}
    options = {name: value for name, value in options.items() if name.startswith("num_")}
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in TENSORS:
            signature[name] = f"*{dtype if name in INPUTS else 'fp32'}"
        else:
            signature[name] = "fp32" if name in FLOATS else "i32"
        if name in TENSORS or DIVISIBLE.fullmatch(name):
            hints[place,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, {name: constants[name] for name in signature if name in constants}, hints)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK", "LOCAL"))
    return {
        "kernel": kernel.__name__ + "_normalised" * normalised,
        "gpu": f"sm_{capability}",
        "input": dtype,
        "warps": options["num_warps"],
        "registers": registers,
        "spilled": max(stack, local),  # bytes of a thread
        "shared": compiled.metadata.shared,  # bytes
    }


if __name__ == "__main__":
    capability, dtype = int(sys.argv[1].removeprefix("sm_")), sys.argv[2]
    for kernel, normalised, options in variants():
        if dtype == "fp32" or not set(INPUTS).isdisjoint(kernel.arg_names):
            print(json.dumps(compile_kernel(kernel, normalised, options, capability, dtype)), flush=True)
