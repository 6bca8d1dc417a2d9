"""The definition of SOFT attention: what tests and benchmarks compare everything faster with.

It follows the paper (Lu et al., NeurIPS 2021) line by line and, where the paper leaves a choice open, the authors'
released code; `soft_norm` is the journal extension (Lu et al., IJCV 2024). The kernel is the exponential of an explicit
difference, so that nothing cancels; that takes N·m·d numbers, so inputs have to be small.

All functions work on any device and in any floating-point type, and nothing outside PyTorch is imported.

Shapes: B batch, h heads, N = H·W tokens on a grid (H, W), d head width, m landmarks.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Grid = tuple[int, int]
Kernel = Callable[[Tensor, Tensor], Tensor]


class Weights(NamedTuple):
    """What an attention learns besides its linear maps."""

    landmarks: Tensor  # convolution that samples landmarks, (d, d, kernel height, kernel width)
    gain: Tensor  # LayerNorm of the landmarks, (d,)
    bias: Tensor  # LayerNorm of the landmarks, (d,)
    local: Tensor  # convolution of V, one filter for each head, (h, 1, k, k)


def attend(
    q: Tensor,
    v: Tensor,
    grid: Grid,
    weights: Weights,
    stride: int | Grid,
    iters: int = 20,
    normalised: bool = False,
    kernel: Kernel | None = None,
    global_scale: float | None = None,
) -> Tensor:
    """Return X = P·A⁺·(Pᵀ·V) + DWConv(V) of Algorithm 1: Q and V (B, h, N, d) -> (B, h, N, d).

    Args:
        q, v: queries, which are the keys too, and values.
        grid: height and width in tokens.
        weights: of the landmarks and of the local convolution.
        stride: of the landmark convolution.
        iters: Newton-Raphson steps T.
        normalised: take D^(−½)·A⁺·D^(−½) in place of A⁺, the `soft_norm` variant.
        kernel: takes the place of `gaussian_kernel`, to measure another way of computing it.
        global_scale: c; the first term is then multiplied by c/N, which the paper does not do.
    """
    kernel = kernel or gaussian_kernel
    q = q / q.shape[-1] ** 0.25
    landmarks = activate(sample(q, grid, weights.landmarks, stride), weights.gain, weights.bias)
    inverse = kernel_inverse(kernel(landmarks, landmarks), iters, normalised)
    x = mix(kernel(q, landmarks), inverse, v)
    if global_scale is not None:
        x = x * global_scale / q.shape[2]
    return x + convolve(v, weights.local, grid)


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return exp(−½‖x_i − y_j‖²) (section 3.1): x (..., n, d), y (..., m, d) -> (..., n, m)."""
    difference = x[..., :, None, :] - y[..., None, :, :]
    return torch.exp(-0.5 * difference.square().sum(-1))


def sample(q: Tensor, grid: Grid, weight: Tensor, stride: int | Grid) -> Tensor:
    """Return m samples of each head's tokens by a strided convolution (Algorithm 1, line 2).

    All heads share the weight (d, d, kernel height, kernel width): (B, h, N, d) -> (B, h, m, d).
    """
    b, h, _, d = q.shape
    image = q.reshape(b * h, *grid, d).permute(0, 3, 1, 2)
    return F.conv2d(image, weight, stride=stride).flatten(2).transpose(1, 2).reshape(b, h, -1, d)


def activate(sampled: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Return the landmarks Q̃ of what was sampled: LayerNorm, then the exact GELU, (B, h, m, d) -> (B, h, m, d)."""
    return F.gelu(F.layer_norm(sampled, sampled.shape[-1:], gain, bias))


def mix(p: Tensor, inverse: Tensor, v: Tensor) -> Tensor:
    """Return P·A⁺·Pᵀ·V (Algorithm 1): P (..., N, m), A⁺ (..., m, m), V (..., N, d) -> (..., N, d)."""
    return (p @ inverse) @ (p.transpose(-2, -1) @ v)


def convolve(v: Tensor, filters: Tensor, grid: Grid) -> Tensor:
    """Return the k×k depthwise convolution of V (section 3.3): (B, h, N, d) -> (B, h, N, d).

    Each head has one of the filters (h, 1, k, k), which its d channels share.
    """
    b, h, n, d = v.shape
    image = v.reshape(b, h, *grid, d).permute(0, 4, 1, 2, 3).reshape(b * d, h, *grid)
    local = F.conv2d(image, filters, padding=filters.shape[-1] // 2, groups=h)
    return local.reshape(b, d, h, n).permute(0, 2, 3, 1)


def kernel_inverse(a: Tensor, iters: int = 20, normalised: bool = False) -> Tensor:
    """Return A⁺ (Algorithm 2) or, for `soft_norm`, D^(−½)·A⁺·D^(−½) with D = diag(row sums of A).

    The plain variant inverts A + 0.01·I, as the released code does; its step size is that of A. A is (..., m, m).
    """
    if not normalised:
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        return newton_raphson(a + 0.01 * eye, plain_alpha(a.detach()), iters)
    scale = torch.diag_embed(a.sum(dim=-1) ** -0.5)
    return scale @ newton_raphson(a, normalised_alpha(a.detach()), iters) @ scale


def plain_alpha(a: Tensor) -> Tensor:
    """Return the step size α = 0.9 · 2 / (largest row sum of A)² of each matrix: (..., m, m) -> (..., 1, 1)."""
    return 0.9 * 2 / a.sum(dim=-1).amax(dim=-1)[..., None, None] ** 2


def normalised_alpha(a: Tensor) -> Tensor:
    """Return the step size of `soft_norm` for each matrix: (..., m, m) -> (..., 1, 1).

    α = 2 / (largest row sum of A)² is halved, up to ten times, while ‖I − α·A²‖₁, the largest column sum of absolute
    values, exceeds 1.01. The released code takes one α for the whole batch.
    """
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    alpha = 2 / a.sum(dim=-1).amax(dim=-1)[..., None, None] ** 2
    for _ in range(10):
        error = (eye - alpha * (a @ a)).abs().sum(dim=-2).amax(dim=-1)[..., None, None]
        alpha = torch.where(error > 1.01, alpha / 2, alpha)
    return alpha


def newton_raphson(a: Tensor, alpha: Tensor, iters: int) -> Tensor:
    """Return V_T of Algorithm 2: V₀ = α·A, V_{k+1} = 2·V_k − V_k·A·V_k.

    The gradient does not run back through the steps: it is that of the exact inverse, −Yᵀ·(∂L/∂Y)·Yᵀ with Y = V_T, as
    in the released code. The step size α gets no gradient.
    """
    return _NewtonRaphson.apply(a, alpha, iters)


class _NewtonRaphson(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, alpha: Tensor, iters: int) -> Tensor:
        v = alpha * a
        for _ in range(iters):
            v = 2 * v - v @ a @ v
        ctx.save_for_backward(v)
        return v

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        transposed = v.transpose(-2, -1)
        return -(transposed @ grad @ transposed), None, None
