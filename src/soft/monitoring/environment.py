"""Describes the conditions under which a run's figures were measured."""

import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def describe_environment(device: torch.device) -> dict[str, object]:
    """Return the device, the number of threads, versions, and this code's commit (None outside a git checkout)."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "lightning", "timm")},
        "commit": _commit(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    if not shutil.which("git"):
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
