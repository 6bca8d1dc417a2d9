"""The attention core by Triton kernels, with its gradient: `kernel_attention`, and the operator `soft::attention`.

Eager PyTorch runs the first, an autograd function, because the dispatch of an operator costs more host time. For
torch.compile there is the second, which it records without looking into it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.kernels.launches import Saved, attend, differentiate


class _Options(NamedTuple):
    """The arguments of `attend` that have no gradient."""

    grid: tuple[int, int]
    scale: float
    iters: int
    normalised: bool
    factor: float


def kernel_attention(
    q: Tensor,
    landmarks: Tensor,
    v: Tensor,
    filters: Tensor,
    grid: tuple[int, int],
    scale: float,
    iters: int = 20,
    normalised: bool = False,
    factor: float = 1.0,
) -> Tensor:
    """Return X = `factor`·P·A⁺·(Pᵀ·V) + DWConv(V) in float32, (B, N, h, d); see `launches.attend`."""
    return _KernelAttention.apply(q, landmarks, v, filters, _Options(grid, scale, iters, normalised, factor))


class _KernelAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, landmarks: Tensor, v: Tensor, filters: Tensor, options: _Options
    ) -> Tensor:
        out, saved = attend(q, landmarks, v, filters, *options)
        ctx.save_for_backward(q, landmarks, v, filters, *saved)
        ctx.options = options
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, inverse, mixed, weighted = ctx.saved_tensors
        grid, scale, _, normalised, factor = ctx.options
        saved = Saved(inverse, mixed, weighted)
        return *differentiate(
            grad, *inputs, saved, grid, scale, normalised, factor, with_filters=ctx.needs_input_grad[3]
        ), None


@torch.library.custom_op("soft::attention", mutates_args=())
def _operator(
    q: Tensor,
    landmarks: Tensor,
    v: Tensor,
    filters: Tensor,
    height: int,
    width: int,
    scale: float,
    iters: int,
    normalised: bool,
    factor: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, saved = attend(q, landmarks, v, filters, (height, width), scale, iters, normalised, factor)
    return out, *saved


@_operator.register_fake
def _(q: Tensor, landmarks: Tensor, v: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, h, m, d = landmarks.shape
    like = {"dtype": torch.float32}
    mixed = landmarks.new_empty(b * h, m, d, **like)
    return v.new_empty(v.shape, **like), landmarks.new_empty(b * h, m, m, **like), mixed, torch.empty_like(mixed)


@torch.library.custom_op("soft::attention_backward", mutates_args=())
def _backward_operator(
    grad: Tensor,
    q: Tensor,
    landmarks: Tensor,
    v: Tensor,
    filters: Tensor,
    inverse: Tensor,
    mixed: Tensor,
    weighted: Tensor,
    height: int,
    width: int,
    scale: float,
    normalised: bool,
    factor: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    saved = Saved(inverse, mixed, weighted)
    return differentiate(grad, q, landmarks, v, filters, saved, (height, width), scale, normalised, factor)


@_backward_operator.register_fake
def _(grad: Tensor, *inputs: Tensor | float) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in inputs[:4])


def _save(ctx: FunctionCtx, inputs: tuple, output: tuple) -> None:
    q, landmarks, v, filters, height, width, scale, _, normalised, factor = inputs
    ctx.save_for_backward(q, landmarks, v, filters, *output[1:])
    ctx.options = height, width, scale, normalised, factor


def _differentiate(ctx: FunctionCtx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward_operator(grad, *ctx.saved_tensors, *ctx.options), *(None,) * 6


_operator.register_autograd(_differentiate, setup_context=_save)
