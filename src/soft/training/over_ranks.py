"""Means over the ranks of a distributed training."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of `x` over all ranks, through which gradients flow; `x` itself where there is one process.

    The host does not wait for the device, as it does in Lightning's reductions, which begin with a barrier.

    Args:
        x: a tensor of any shape; the shape is the same on every rank.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return x
    return _SumOverRanks.apply(x) / dist.get_world_size()


class _SumOverRanks(torch.autograd.Function):
    """Sum over the ranks, which every rank gets; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _SumOverRanks.apply(grad)
