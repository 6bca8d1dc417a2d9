"""The memory of this machine: how much there is, and how much this process has used."""

import ctypes
import os
import resource
import sys
from pathlib import Path

import torch

GIB = 2**30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def host_memory() -> int:
    """Return the bytes of memory of this machine, or of the container that this process runs in."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    container = Path("/sys/fs/cgroup/memory.max")
    if container.is_file() and (text := container.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(limits)


def device_memory(accelerator: str, per_node: int, configured: float | None) -> int | None:
    """Return the bytes of memory that one process may use on its device; None if that is unknown.

    Args:
        accelerator: as from `soft.hardware.devices.choose_accelerator`.
        per_node: processes on a machine, which share its memory when they run on the CPU.
        configured: GiB of a device that is not in this machine (trainer.device_memory).
    """
    if accelerator == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    if configured is not None:
        return int(configured * GIB)
    if accelerator == "mps" and torch.backends.mps.is_available():
        return torch.mps.recommended_max_memory()
    return host_memory() // per_node if accelerator == "cpu" else None


def peak_memory(device: torch.device) -> int:
    """Return the largest number of bytes in use so far.

    On a GPU only tensors are counted; elsewhere the whole process is, libraries included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, getrusage's figure begins with that of the process that started this one
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Make glibc reuse the memory that this process frees; by default glibc returns much of it in every training step.

    The system hands out pages one by one and filled with zeros, which can take a third of a training step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**25)  # bytes, glibc's maximum; larger tensors get mappings of their own
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # free bytes at the end of the heap before some are returned


def gib(size: int) -> str:
    """Return a number of bytes as text in GiB or MiB, such as `1.50 GiB`."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
