"""The landmark convolution as a matrix product over windows of the grid, in one autograd function.

Shapes: b images, h heads, N = H·W tokens, d head width, m windows.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.fast.eager import is_eager
from soft.attention.landmarks import LandmarkSampler

Pair = tuple[int, int]
# How many times overlapping windows may hold a token on average; beyond it a convolution is faster than the product.
MAX_REPEATS = 4


def sample_landmarks(sampler: LandmarkSampler, q: Tensor, grid: Pair, scale: float) -> tuple[Tensor, Tensor]:
    """Return the landmarks that `sampler` gives, and the queries for whatever else takes them, see `sample_windows`."""
    overlap = math.prod(sampler.kernel) > MAX_REPEATS * math.prod(sampler.stride)
    if sampler.conv is None or overlap or sampler.resizes(grid) or not is_eager():
        return sampler(q, grid, scale), q
    sampler.check_grid(grid)
    filters = sampler.scaled_filters(q, scale).permute(0, 2, 3, 1).reshape(q.shape[-1], -1)
    sampled, q = sample_windows(q, filters, grid, sampler.kernel, sampler.stride)
    return sampler.activate(sampled), q


def sample_windows(q: Tensor, filters: Tensor, grid: Pair, kernel: Pair, stride: Pair) -> tuple[Tensor, Tensor]:
    """Return a strided convolution of each head's tokens, (b, h, m, d), and the tokens themselves.

    Whatever else takes the tokens should take the second result: the gradients are then summed in place, and the
    windows, which hold all tokens again, are not kept for the backward pass.

    Args:
        q: tokens, (b, h, N, d).
        filters: (d, kernel height · kernel width · d).
        grid: height and width in tokens.
        kernel, stride: of the convolution, (height, width).
    """
    return _SampleWindows.apply(q, filters, grid, kernel, stride)


class _SampleWindows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, filters: Tensor, grid: Pair, kernel: Pair, stride: Pair
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(q, filters)
        ctx.sizes = grid, kernel, stride
        return (_rows(q, *ctx.sizes) @ filters.mT).transpose(1, 2), q.view_as(q)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, grad_q: Tensor) -> tuple[Tensor | None, ...]:
        q, filters = ctx.saved_tensors
        _, kernel, stride = ctx.sizes
        grad = grad.transpose(1, 2).reshape(-1, grad.shape[-1])
        grad_filters = grad.mT @ _rows(q, *ctx.sizes).flatten(0, -2) if ctx.needs_input_grad[1] else None
        if ctx.needs_input_grad[0]:
            target = _windows(grad_q, *ctx.sizes)
            grad_windows = (grad @ filters).view(target.shape)
            # Overlapping windows cannot be added to at once, but their parts no longer than the stride do not overlap.
            for top in range(0, kernel[0], stride[0]):
                for left in range(0, kernel[1], stride[1]):
                    part = (..., slice(top, top + stride[0]), slice(left, left + stride[1]), slice(None))
                    target[part].add_(grad_windows[part])
        return grad_q, grad_filters, None, None, None


def _windows(tokens: Tensor, grid: Pair, kernel: Pair, stride: Pair) -> Tensor:
    """Return tokens (b, h, N, d) as a view (b, rows, columns, h, kernel height, kernel width, d)."""
    image = tokens.unflatten(2, grid)
    return image.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1]).permute(0, 2, 3, 1, 5, 6, 4)


def _rows(tokens: Tensor, grid: Pair, kernel: Pair, stride: Pair) -> Tensor:
    """Return each head's windows as rows, (b, m, h, kernel area · d).

    All heads of a window lie together in memory, as they do in Q.
    """
    return _windows(tokens, grid, kernel, stride).flatten(4).flatten(1, 2)
