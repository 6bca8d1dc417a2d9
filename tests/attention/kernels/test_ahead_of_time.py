"""The kernels are compiled for GPUs that are not here: they fit, and spill nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton exists for Linux alone")
ROOT = Path(__file__).parents[3]
SHARED = {"sm_80": 163 * 1024, "sm_90": 227 * 1024}  # bytes that a block can have


@pytest.mark.slow
@pytest.mark.parametrize(("gpu", "dtype"), [("sm_80", "fp32"), ("sm_80", "bf16"), ("sm_90", "fp32"), ("sm_90", "bf16")])
def test_kernels_for_paper_sizes_fit_without_spills(gpu, dtype, tmp_path):
    """49 and 64 landmarks run the same kernel, of heads of 32."""
    command = [sys.executable, "-m", "tests.attention.kernels.compile_ahead", gpu, dtype]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    table = "\n".join(" ".join(f"{value!s:>12}" for value in kernel.values()) for kernel in kernels)
    print(" ".join(f"{name:>12}" for name in kernels[0]), table, sep="\n")
    assert len(kernels) == (9 if dtype == "fp32" else 3)
    assert not any(kernel["spilled"] for kernel in kernels), table
    assert max(kernel["shared"] for kernel in kernels) <= SHARED[gpu], table
    assert max(kernel["registers"] for kernel in kernels) <= 255, table
