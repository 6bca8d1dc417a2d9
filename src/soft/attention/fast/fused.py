"""The attention core in one autograd function: what SOFT attention runs in eager PyTorch.

It computes what `SoftAttention.compose` computes, with fewer passes over memory; the kernel is the only N×m tensor that
is saved for the backward pass.

Shapes: Q, V and the output are (B, N, h, d), landmarks Q̃ (B, h, m, d). Inside, the kernel is Pᵀ, (B·h, m, N), because
matrix products are faster with the long side last.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.fast.depthwise import filter_gradient
from soft.attention.gaussian import gaussian_kernel
from soft.attention.local import convolve_tokens
from soft.attention.precision import ieee_products

LOG2_E = 1 / math.log(2)


def fused_attention(
    q: Tensor,
    landmarks: Tensor,
    v: Tensor,
    filters: Tensor,
    grid: tuple[int, int],
    scale: float,
    invert: Callable[[Tensor], Tensor],
    normalised: bool = False,
    factor: float = 1.0,
) -> Tensor:
    """Return X = `factor`·P·A⁺·(Pᵀ·V) + DWConv(V), (B, N, h, d).

    P is the Gaussian kernel of `scale`·Q and Q̃, A that of Q̃ and Q̃.

    Args:
        q, v: (B, N, h, d), float32 or float64, N = H·W.
        landmarks: Q̃ of the scaled queries, (B, h, m, d).
        filters: (h, 1, k, k), one for each head.
        grid: height H and width W in tokens.
        scale: of Q, d^(−¼) in the paper.
        invert: returns A⁺ of A, both (B, h, m, m); its gradient is taken to be that of the exact inverse.
        normalised: whether `invert` returns D^(−½)·A⁺·D^(−½), D the row sums of A.
        factor: of the global term, 1 as published.
    """
    return _FusedAttention.apply(
        q, landmarks, v, filters, _Options(grid, scale, invert, normalised, factor, torch.is_grad_enabled())
    )


class _Options(NamedTuple):
    """The arguments of `fused_attention` that have no gradient, and whether there will be a backward pass."""

    grid: tuple[int, int]
    scale: float
    invert: Callable[[Tensor], Tensor]
    normalised: bool
    factor: float
    trains: bool


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, landmarks: Tensor, v: Tensor, filters: Tensor, options: _Options
    ) -> Tensor:
        b, n, h, d = q.shape
        m = landmarks.shape[2]
        a = gaussian_kernel(landmarks, landmarks)
        inverse = options.invert(a).reshape(b * h, m, m)
        if options.factor != 1:
            inverse = options.factor * inverse

        # The exponent q·l − ½‖q‖² − ½‖l‖² is one product of [q, −½‖q‖², 1] with [l, 1, −½‖l‖²].
        queries = q.new_empty(b, h, n, d + 2)
        torch.mul(q.transpose(1, 2), options.scale, out=queries[..., :d])
        norms = queries[..., d]
        torch.linalg.vector_norm(queries[..., :d], dim=-1, out=norms)
        norms.square_().mul_(-0.5)
        queries[..., d + 1] = 1
        norms = landmarks.square().sum(-1, keepdim=True).mul_(-0.5)
        keys = torch.cat([landmarks, torch.ones_like(norms), norms], -1).view(b * h, m, d + 2)
        # The exponential to the base 2 is faster than that to the base e.
        p = torch.bmm(keys.mul_(LOG2_E), queries.view(b * h, n, d + 2).mT).exp2_()
        del queries

        # In this order nothing costs more than N·m·d.
        mixed = torch.bmm(p, _by_head(v))
        weighted = torch.bmm(inverse, mixed)
        x = torch.bmm(p.mT, weighted)
        if options.trains:
            ctx.save_for_backward(q, landmarks, v, filters, a, inverse, p, mixed, weighted)
            ctx.options = options
        del p  # P is the largest tensor of all
        out = convolve_tokens(v, filters, options.grid)
        out.transpose(1, 2).add_(x.view(b, h, n, d))
        return out

    @staticmethod
    @once_differentiable
    @ieee_products()
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, landmarks, v, filters, a, inverse, p, mixed, weighted = ctx.saved_tensors
        b, n, h, d = v.shape
        m = landmarks.shape[2]
        grid, scale, _, normalised, factor, _ = ctx.options
        # All that reads V and the gradient stands together, while they are in the cache.
        grad_by_head = _by_head(grad)
        grad = grad.contiguous()
        grad_v = convolve_tokens(grad, filters.flip(2, 3), grid)
        grad_filters = filter_gradient(v, grad, filters.shape[-1], grid) if ctx.needs_input_grad[3] else None
        grad_weighted = torch.bmm(p, grad_by_head)
        grad_mixed = torch.bmm(inverse.mT, grad_weighted)
        # ∂L/∂P has two terms, one from each P in the product; times P it is the gradient of the exponent.
        exponent = torch.bmm(weighted, grad_by_head.mT)
        del grad_by_head  # here and below, so that the large tensors are not held side by side
        exponent.baddbmm_(grad_mixed, _by_head(v).mT).mul_(p)
        grad_v.transpose(1, 2).add_(torch.bmm(p.mT, grad_mixed).view(b, h, n, d))

        # ½‖q‖² and ½‖l‖² take the column and row sums of the exponent's gradient. The row sums follow from m×d tensors.
        columns = torch.bmm(exponent.new_ones(1, 1, m).expand(b * h, 1, m), exponent).view(b, h, n, 1)
        rows = (grad_weighted * weighted).addcmul_(grad_mixed, mixed).sum(-1, keepdim=True)
        keys = landmarks.reshape(b * h, m, d)
        by_query = torch.bmm(exponent.mT, keys * scale).view(b, h, n, d)
        grad_q = torch.empty_like(v)
        torch.addcmul(by_query, columns, q.transpose(1, 2), value=-(scale**2), out=grad_q.transpose(1, 2))
        del by_query
        by_key = torch.bmm(exponent, _by_head(q))
        del exponent

        # ∂L/∂A is −A⁺ᵀ·(∂L/∂A⁺)·A⁺ᵀ, where ∂L/∂A⁺ is grad_weighted·mixedᵀ; `inverse` is A⁺ times the factor.
        a = a.view(b * h, m, m)
        grad_a = torch.bmm(grad_mixed, weighted.mT).mul_(-1 / factor)
        if normalised:
            sums = a.sum(-1, keepdim=True)
            roots = sums.sqrt()
            grad_a.mul_(roots).mul_(roots.mT).addcdiv_(rows, sums, value=-0.5)
        # A landmark is both a row and a column of A's exponent.
        exponent = (grad_a + grad_a.mT).mul_(a)
        rows.add_(exponent.sum(-1, keepdim=True))
        grad_landmarks = torch.baddbmm(by_key, exponent, keys, beta=scale).addcmul_(rows, keys, value=-1)
        return grad_q, grad_landmarks.view(landmarks.shape), grad_v, grad_filters, None


def _by_head(tokens: Tensor) -> Tensor:
    """Return tokens (B, N, h, d) as (B·h, N, d), contiguous.

    Products are slow on expanded tensors, such as the gradient of a sum.
    """
    return tokens.transpose(1, 2).flatten(0, 1).contiguous()
