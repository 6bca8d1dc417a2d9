"""Which floating-point type an attention computes in."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x`, in float32 if it is in half precision."""
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


def parameter_type(module: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    """Return the type that a module takes without autocast: that of its parameters.

    Args:
        module: a linear map or a convolution, or what adapts one.
        otherwise: the type for a module without floating-point parameters, such as a linear map quantised by PyTorch.
    """
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return otherwise


def without_autocast(device_type: str) -> AbstractContextManager:
    """Switch autocast off on devices that know it; others, such as meta, refuse even that."""
    return torch.autocast(device_type, enabled=False) if torch.amp.is_autocast_available(device_type) else nullcontext()


def without_float16_autocast(device_type: str) -> AbstractContextManager:
    """Switch autocast off where it computes in float16, whose largest number is 65504."""
    in_float16 = (
        torch.amp.is_autocast_available(device_type)
        and torch.is_autocast_enabled(device_type)
        and torch.get_autocast_dtype(device_type) == torch.float16
    )
    return without_autocast(device_type) if in_float16 else nullcontext()


@contextmanager
def ieee_products() -> Iterator[None]:
    """Multiply float32 numbers in full float32 in this context, also where the process lets GPUs round them to TF32.

    The kernel's exponent and the inverse amplify TF32's relative rounding of 2⁻¹¹ until the error exceeds the result.
    """
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
