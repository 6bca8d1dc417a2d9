"""The machine and the software that figures were measured on."""

import gc
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def describe_machine(device: torch.device) -> dict[str, object]:
    """Return the conditions of a measurement by name, as they are printed and written beside its figures.

    Returns:
        `device` (the GPU's name, or the processor's for any other device), `machine` (processor and number of cores),
        `threads` of PyTorch, the versions of Python, PyTorch, Lightning and timm, the git `commit` of this code
        (`-dirty` marks local changes; None outside a checkout), and the settings of the process: `openmp_spin`
        (GOMP_SPINCOUNT) and `gc_threshold`.
    """
    processor = _processor()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "machine": f"{processor}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "lightning", "timm")},
        "commit": _commit(),
        "openmp_spin": os.environ.get("GOMP_SPINCOUNT"),
        "gc_threshold": gc.get_threshold()[0],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str | None:
    if not shutil.which("git"):
        return None
    # Without --exclude a tag would take the place of the commit.
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
