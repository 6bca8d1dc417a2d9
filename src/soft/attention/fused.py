"""The attention core in one autograd function: what `SoftAttention` runs in eager PyTorch.

It computes what the composed form in `soft.py` computes, with fewer passes over memory; of what has the size N×m, only
the kernel is kept for the backward pass. Compilers, exporters and TorchScript get the composed form, which they fuse
themselves.

Shapes: Q, V and the output are (B, N, h, d), landmarks Q̃ (B, h, m, d). Inside, the kernel is Pᵀ, (B·h, m, N): products
are faster with the long side last.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.depthwise import convolve, filter_gradient
from soft.attention.gaussian import gaussian_kernel

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
) -> Tensor:
    """X = P·A⁺·(Pᵀ·V) + DWConv(V) with P the Gaussian kernel of `scale`·Q and Q̃, A that of Q̃; (B, N, h, d).

    Args:
        q, v: (B, N, h, d), float32 or float64, N = H·W.
        landmarks: (B, h, m, d), of the scaled queries.
        filters: (h, 1, k, k), one for each head.
        grid: (H, W).
        scale: of Q, d^(−¼) in the paper.
        invert: A -> A⁺, (B, h, m, m) both; its gradient is taken to be that of the exact inverse.
        normalised: whether `invert` gives D^(−½)·A⁺·D^(−½), D the row sums of A.
    """
    return _FusedAttention.apply(
        q, landmarks, v, filters, _Options(grid, scale, invert, normalised, torch.is_grad_enabled())
    )


class _Options(NamedTuple):
    """What of `fused_attention`'s arguments has no gradient, and whether there is a backward pass."""

    grid: tuple[int, int]
    scale: float
    invert: Callable[[Tensor], Tensor]
    normalised: bool
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

        # The exponent q·l − ½‖q‖² − ½‖l‖² as one product of [q, −½‖q‖², 1] with [l, 1, −½‖l‖²].
        queries = q.new_empty(b, h, n, d + 2)
        torch.mul(q.transpose(1, 2), options.scale, out=queries[..., :d])
        norms = queries[..., d]
        torch.linalg.vector_norm(queries[..., :d], dim=-1, out=norms)
        norms.square_().mul_(-0.5)
        queries[..., d + 1] = 1
        norms = landmarks.square().sum(-1, keepdim=True).mul_(-0.5)
        keys = torch.cat([landmarks, torch.ones_like(norms), norms], -1).view(b * h, m, d + 2)
        # To the base 2, whose exponential is the faster one.
        p = torch.bmm(keys.mul_(LOG2_E), queries.view(b * h, n, d + 2).mT).exp2_()
        del queries

        # In this order nothing costs more than N·m·d.
        mixed = torch.bmm(p, _by_head(v))
        weighted = torch.bmm(inverse, mixed)
        x = torch.bmm(p.mT, weighted)
        if options.trains:
            ctx.save_for_backward(q, landmarks, v, filters, a, inverse, p, mixed, weighted)
            ctx.options = options
        del p  # the largest of all
        out = convolve(v, filters, options.grid)
        out.transpose(1, 2).add_(x.view(b, h, n, d))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, landmarks, v, filters, a, inverse, p, mixed, weighted = ctx.saved_tensors
        b, n, h, d = v.shape
        m = landmarks.shape[2]
        grid, scale, _, normalised, _ = ctx.options
        # What reads V and the gradient stands together, while they are in the cache.
        grad_by_head = _by_head(grad)
        grad = grad.contiguous()
        grad_v = convolve(grad, filters.flip(2, 3), grid)
        grad_filters = filter_gradient(v, grad, filters.shape[-1], grid) if ctx.needs_input_grad[3] else None
        grad_weighted = torch.bmm(p, grad_by_head)
        grad_mixed = torch.bmm(inverse.mT, grad_weighted)
        # ∂L/∂P has two terms, one from each P in the product; times P it is ∂L of the exponent.
        exponent = torch.bmm(weighted, grad_by_head.mT)
        del grad_by_head  # here and below: the large ones are not needed side by side
        exponent.baddbmm_(grad_mixed, _by_head(v).mT).mul_(p)
        grad_v.transpose(1, 2).add_(torch.bmm(p.mT, grad_mixed).view(b, h, n, d))

        # ½‖q‖² and ½‖l‖² take the exponent's column and row sums; the latter follow from what is small.
        columns = torch.bmm(exponent.new_ones(1, 1, m).expand(b * h, 1, m), exponent).view(b, h, n, 1)
        rows = (grad_weighted * weighted).addcmul_(grad_mixed, mixed).sum(-1, keepdim=True)
        keys = landmarks.reshape(b * h, m, d)
        by_query = torch.bmm(exponent.mT, keys * scale).view(b, h, n, d)
        grad_q = torch.empty_like(v)
        torch.addcmul(by_query, columns, q.transpose(1, 2), value=-(scale**2), out=grad_q.transpose(1, 2))
        del by_query
        by_key = torch.bmm(exponent, _by_head(q))
        del exponent

        # −A⁺ᵀ·(∂L/∂A⁺)·A⁺ᵀ, where ∂L/∂A⁺ is grad_weighted·mixedᵀ.
        a = a.view(b * h, m, m)
        grad_a = torch.bmm(grad_mixed, weighted.mT).neg_()
        if normalised:
            sums = a.sum(-1, keepdim=True)
            roots = sums.sqrt()
            grad_a.mul_(roots).mul_(roots.mT).addcdiv_(rows, sums, value=-0.5)
        # Of A's exponent, in which a landmark is both row and column.
        exponent = (grad_a + grad_a.mT).mul_(a)
        rows.add_(exponent.sum(-1, keepdim=True))
        grad_landmarks = torch.baddbmm(by_key, exponent, keys, beta=scale).addcmul_(rows, keys, value=-1)
        return grad_q, grad_landmarks.view(landmarks.shape), grad_v, grad_filters, None


def _by_head(tokens: Tensor) -> Tensor:
    """(B, N, h, d) -> (B·h, N, d), contiguous: products are slow on expanded tensors, such as the gradient of a sum."""
    return tokens.transpose(1, 2).flatten(0, 1).contiguous()
