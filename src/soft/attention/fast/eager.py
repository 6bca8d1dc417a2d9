"""Tests for what runs now: ordinary eager PyTorch, or something that records the operations."""

import torch
from torch import Tensor


def is_eager() -> bool:
    """Return False while a compiler, an exporter or a tracer records the operations.

    It could not see into our own autograd functions, and fuses PyTorch's operations by itself.
    """
    return not (torch.jit.is_tracing() or torch.compiler.is_compiling())


def may_read(tensor: Tensor) -> bool:
    """Return whether a value of `tensor` may steer Python: it has values, and reading one waits for no device."""
    # Tensors without values, which are fake or traced, are subclasses.
    return tensor.device.type == "cpu" and type(tensor) is Tensor and is_eager()
