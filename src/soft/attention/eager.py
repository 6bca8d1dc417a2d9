"""Whether ordinary eager PyTorch is running."""

import torch
from torch import Tensor


def is_eager() -> bool:
    """False while a compiler, an exporter or a tracer records the operations: it cannot see through our own autograd
    functions, and fuses the composed forms itself."""
    return not (torch.jit.is_tracing() or torch.compiler.is_compiling())


def may_read(tensor: Tensor) -> bool:
    """Whether a value of `tensor` may steer Python: it is real, and reading it makes no device wait."""
    # Fake and traced tensors are subclasses.
    return tensor.device.type == "cpu" and type(tensor) is Tensor and is_eager()
