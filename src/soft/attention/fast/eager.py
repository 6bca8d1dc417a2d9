"""Tests for what runs now: ordinary eager PyTorch, or something that records the operations."""

import torch
from torch import Tensor


def is_eager() -> bool:
    """Return False while a compiler, an exporter or a tracer records the operations, or torch.func transforms them.

    They could not see into our own autograd functions; compilers fuse PyTorch's operations by themselves.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    return not torch._C._are_functorch_transforms_active()


def may_read(tensor: Tensor) -> bool:
    """Return whether a value of `tensor` may steer Python: it has values, and reading one waits for no device."""
    # Tensors without values, which are fake or traced, are subclasses.
    return tensor.device.type == "cpu" and type(tensor) is Tensor and is_eager()
