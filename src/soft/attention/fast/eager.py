"""Tests for what runs now: ordinary eager PyTorch, or something that records the operations."""

import torch
from torch import Tensor, nn


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


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether calling `module` is what a `kind` of PyTorch's does, so that its weights stand for a call.

    Adapters and parametrizations are of another class, pruning and watching tools register hooks, and some tools put
    another `forward` on the object.
    """
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return type(module) is kind and not any(hooks) and "forward" not in module.__dict__
