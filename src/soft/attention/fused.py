"""The attention core in one autograd function: what `SoftAttention` runs in eager PyTorch.

It computes what the composed form in `soft.py` computes, with fewer passes over memory; of what has the size N×m, only
the kernel is kept for the backward pass. Compilers, exporters and TorchScript get the composed form, which they fuse
themselves.

Shapes: Q, V and the output are (B, N, h, d), landmarks Q̃ (B, h, m, d), their inverse kernel A⁺ (B, h, m, m). Inside,
the kernel is Pᵀ, (B·h, m, N): products are faster with the long side last.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.depthwise import convolve, filter_gradient

LOG2_E = 1 / math.log(2)


def fused_attention(
    q: Tensor, landmarks: Tensor, inverse: Tensor, v: Tensor, filters: Tensor, grid: tuple[int, int], scale: float
) -> Tensor:
    """X = P·A⁺·(Pᵀ·V) + DWConv(V) with P the Gaussian kernel of `scale`·Q and Q̃; (B, N, h, d).

    Args:
        q, v: (B, N, h, d), float32 or float64, N = H·W.
        landmarks: (B, h, m, d), of the scaled queries.
        inverse: A⁺, (B, h, m, m).
        filters: (h, 1, k, k), one for each head.
        grid: (H, W).
        scale: of Q, d^(−¼) in the paper.
    """
    return _FusedAttention.apply(q, landmarks, inverse, v, filters, grid, scale, torch.is_grad_enabled())


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        landmarks: Tensor,
        inverse: Tensor,
        v: Tensor,
        filters: Tensor,
        grid: tuple[int, int],
        scale: float,
        trains: bool,
    ) -> Tensor:
        b, n, h, d = q.shape
        m = landmarks.shape[2]
        # The exponent q·l − ½‖q‖² − ½‖l‖² as one product of [q, −½‖q‖², 1] with [l, 1, −½‖l‖²].
        queries = _scaled(q, scale, d + 2)
        norms = queries[..., d]
        torch.linalg.vector_norm(queries[..., :d], dim=-1, out=norms)
        norms.square_().mul_(-0.5)
        norms = landmarks.square().sum(-1, keepdim=True).mul_(-0.5)
        keys = torch.cat([landmarks, torch.ones_like(norms), norms], -1).view(b * h, m, d + 2)
        # To the base 2, whose exponential is the faster one.
        p = torch.bmm(keys.mul_(LOG2_E), queries.view(b * h, n, d + 2).mT).exp2_()
        del queries
        inverse = inverse.reshape(b * h, m, m)

        # In this order nothing costs more than N·m·d.
        mixed = torch.bmm(p, v.transpose(1, 2).reshape(b * h, n, d))
        weighted = torch.bmm(inverse, mixed)
        x = torch.bmm(p.mT, weighted)
        if trains:
            ctx.save_for_backward(q, landmarks, inverse, v, filters, p, mixed, weighted)
            ctx.grid, ctx.scale = grid, scale
        del p  # the largest of all
        out = convolve(v, filters, grid)
        out.transpose(1, 2).add_(x.view(b, h, n, d))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, landmarks, inverse, v, filters, p, mixed, weighted = ctx.saved_tensors
        b, n, h, d = v.shape
        m = landmarks.shape[2]
        # Side by side, so that the two terms of ∂L/∂P, one from each P in the product, are one matrix product.
        both = v.new_empty(b, h, n, 2 * d)
        both[..., :d].copy_(grad.transpose(1, 2))
        both[..., d:].copy_(v.transpose(1, 2))
        both = both.view(b * h, n, 2 * d)
        grad_weighted = torch.bmm(p, both[..., :d])
        grad_mixed = torch.bmm(inverse.mT, grad_weighted)
        grad_inverse = torch.bmm(grad_weighted, mixed.mT).view(b, h, m, m)
        exponent = torch.bmm(torch.cat([weighted, grad_mixed], -1), both.mT).mul_(p)
        del both  # here and below: the large ones are not needed side by side
        mixed_back = torch.bmm(p.mT, grad_mixed)

        # The columns of ones give the row and column sums that −½‖q‖² and −½‖l‖² need.
        keys = torch.cat([landmarks, torch.ones_like(landmarks[..., :1])], -1).mul_(ctx.scale)
        by_query = torch.bmm(exponent.mT, keys.view(b * h, m, d + 1)).view(b, h, n, d + 1)
        queries = _scaled(q, ctx.scale, d + 1)
        grad_q = torch.empty_like(v)
        torch.addcmul(by_query[..., :d], by_query[..., d:], queries[..., :d], value=-1, out=grad_q.transpose(1, 2))
        del by_query
        by_key = torch.bmm(exponent, queries.view(b * h, n, d + 1)).view(b, h, m, d + 1)
        del exponent, queries
        grad_landmarks = torch.addcmul(by_key[..., :d], by_key[..., d:], landmarks, value=-1)

        grad = grad.contiguous()
        grad_v = convolve(grad, filters.flip(2, 3), ctx.grid)
        grad_v.transpose(1, 2).add_(mixed_back.view(b, h, n, d))
        del mixed_back
        grad_filters = None
        if ctx.needs_input_grad[4]:
            grad_filters = filter_gradient(v, grad, filters.shape[-1], ctx.grid)
        return grad_q, grad_landmarks, grad_inverse, grad_v, grad_filters, None, None, None


def _scaled(q: Tensor, scale: float, width: int) -> Tensor:
    """`scale`·Q with each head's tokens together and `width` − d more columns, the last of ones: (B, h, N, width)."""
    b, n, h, d = q.shape
    queries = q.new_empty(b, h, n, width)
    torch.mul(q.transpose(1, 2), scale, out=queries[..., :d])
    queries[..., -1] = 1
    return queries
