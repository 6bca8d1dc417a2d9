"""Which floating-point type an attention computes in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x`, in float32 if it is in half precision."""
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


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
