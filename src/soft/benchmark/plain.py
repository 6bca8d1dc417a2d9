"""SOFT attention as its formulas read and its released code computes them: what the fast form is measured against.

Textual order, textual cost: squared norms as matrix products, (P·A⁺)·(Pᵀ·V), every Newton step, the depthwise
convolution with one channel per head. Parameters carry the released names.
"""

import math

import torch
from torch import Tensor, nn


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖² as ‖x‖² + ‖y‖² − 2·x·y with three full products: x (..., n, d), y (..., m, d) -> (..., n, m)."""
    n, d = x.shape[-2:]
    m = y.shape[-2]
    x_norms = (x**2) @ x.new_ones(d, m)
    y_norms = y.new_ones(n, d) @ (y**2).transpose(-2, -1)
    return x_norms + y_norms - 2 * (x @ y.transpose(-2, -1))


class PlainInverse(torch.autograd.Function):
    """T Newton-Raphson steps from α·A; the gradient is that of the exact inverse (SPEC's section 2)."""

    @staticmethod
    def forward(ctx, a: Tensor, alpha: Tensor, iters: int) -> Tensor:
        v = alpha * a
        for _ in range(iters):
            v = 2 * v - v @ a @ v
        ctx.save_for_backward(v)
        return v

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        transposed = v.transpose(-2, -1)
        return -(transposed @ grad @ transposed), None, None


def plain_inverse(a: Tensor, iters: int, normalised: bool) -> Tensor:
    """A⁺, or D^(−½)·A⁺·D^(−½) where `normalised`: a (..., m, m) -> (..., m, m)."""
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    rows = a.sum(dim=-1)
    largest = rows.detach().amax(dim=-1)[..., None, None]
    if not normalised:
        return PlainInverse.apply(a + 0.01 * eye, 2 * 0.9 / largest**2, iters)
    alpha = 2 / largest**2
    for _ in range(10):
        error = (eye - alpha * (a.detach() @ a.detach())).abs().sum(dim=-2).amax(dim=-1)[..., None, None]
        alpha = torch.where(error > 1.01, alpha / 2, alpha)
    scale = torch.diag_embed(rows**-0.5)
    return scale @ PlainInverse.apply(a, alpha, iters) @ scale


class PlainCore(nn.Module):
    """Algorithm 1 without its linear maps: Q, V (B, h, N, d) and their grid -> X (B, h, N, d).

    Args:
        num_heads, head_dim: h and d.
        kernel, stride: of the landmark convolution, (height, width).
        conv_size: k of the k×k depthwise convolution of V.
        newton_iters: T.
        normalised: the IJCV variant of the inverse.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        conv_size: int,
        newton_iters: int = 20,
        normalised: bool = False,
    ):
        super().__init__()
        self.newton_iters = newton_iters
        self.normalised = normalised
        self.Qlandmark_op = nn.Conv2d(head_dim, head_dim, kernel, stride, bias=False)
        self.Qnorm_act = nn.Sequential(nn.LayerNorm(head_dim), nn.GELU())
        self.conv = nn.Conv2d(num_heads, num_heads, conv_size, padding=conv_size // 2, groups=num_heads, bias=False)

    def forward(self, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        b, h, n, d = q.shape
        q = q / math.sqrt(math.sqrt(d))
        image = q.reshape(b * h, *grid, d).permute(0, 3, 1, 2)
        landmarks = self.Qlandmark_op(image).flatten(2).transpose(1, 2).reshape(b, h, -1, d)
        landmarks = self.Qnorm_act(landmarks)
        p = torch.exp(-squared_distance(q, landmarks) / 2)
        a = torch.exp(-squared_distance(landmarks, landmarks) / 2)
        inverse = plain_inverse(a, self.newton_iters, self.normalised)
        x = (p @ inverse) @ (p.transpose(-2, -1) @ v)
        image = v.reshape(b, h, *grid, d).permute(0, 4, 1, 2, 3).reshape(b * d, h, *grid)
        local = self.conv(image).reshape(b, d, h, n)
        return x + local.permute(0, 2, 3, 1)


class PlainAttention(nn.Module):
    """The whole attention, (B, N, C) -> (B, N, C); arguments as `PlainCore`'s."""

    def __init__(self, num_heads: int, head_dim: int, *core: object, **options: object):
        super().__init__()
        dim = num_heads * head_dim
        self.num_heads = num_heads
        self.W_q = nn.Linear(dim, dim)
        self.W_v = nn.Linear(dim, dim)
        self.attn = PlainCore(num_heads, head_dim, *core, **options)
        self.ff = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        q, v = (linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for linear in (self.W_q, self.W_v))
        return self.ff(self.attn(q, v, grid).transpose(1, 2).flatten(2))
