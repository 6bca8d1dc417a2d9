"""The card, its software, and the rates that other figures are measured against."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch

from soft.benchmark.gpu_check.measured import Check, Measured
from soft.benchmark.timing import interleave
from soft.hardware.float32 import FLOAT32, multiply_float32_as


def measure_environment(check: Check) -> Iterator[Measured]:
    """Yield the versions, and the rates of matrix products and of copies in memory."""
    if check.on_gpu:
        properties = torch.cuda.get_device_properties(check.device)
        yield Measured("memory", properties.total_memory / 2**30, "GiB")
        yield Measured("compute capability", f"{properties.major}.{properties.minor}")
        yield Measured("CUDA", str(torch.version.cuda or torch.version.hip))
        yield Measured("cuDNN", str(torch.backends.cudnn.version()))
        if hasattr(torch.cuda, "driver_version"):
            yield Measured("driver", str(torch.cuda.driver_version()))
    yield Measured("Triton", _version("triton"))
    size = 256 if check.small else 8192
    for dtype, modes in ((torch.float32, FLOAT32 if check.on_gpu else ("ieee",)), (torch.bfloat16, ("",))):
        left, right = (torch.randn(size, size, device=check.device, dtype=dtype) for _ in range(2))
        for mode in modes:
            if mode:
                multiply_float32_as(mode)
            seconds = median(interleave({0: lambda a=left, b=right: a @ b}, 5, check.device, 0.02)[0])
            yield Measured(f"matrix product, {str(dtype)[6:]} {mode}".strip(), 2 * size**3 / seconds / 1e12, "TFLOP/s")
            multiply_float32_as("ieee")
    source = torch.randn(2**20 if check.small else 2**28, device=check.device)
    copy = torch.empty_like(source)
    seconds = median(interleave({0: lambda: copy.copy_(source)}, 5, check.device, 0.02)[0])
    yield Measured("copy in memory", 2 * source.nbytes / seconds / 1e9, "GB/s")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
