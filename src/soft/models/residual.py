"""Dropout, residual sum and LayerNorm of a post-norm block as one autograd function."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.fast.eager import is_eager, is_plain


def add_and_normalise(norm: nn.Module, drop: nn.Dropout, x: Tensor, y: Tensor) -> Tensor:
    """Return `norm(x + drop(y))` of tokens (..., C).

    In eager mode on a CPU, the mask of dropped elements is kept as bytes and drawn from sixteen random bits an element,
    so that the rate is `drop.p` rounded to a multiple of 2⁻¹⁶.
    """
    if drop.training and drop.p > 0 and _can_fuse(norm, drop, x, y):
        kept = 2**16 - round(drop.p * 2**16)
        return _DropAddNorm.apply(x, y, norm.weight, norm.bias, norm.eps, kept)
    return norm(x + drop(y))


def _can_fuse(norm: nn.Module, drop: nn.Dropout, x: Tensor, y: Tensor) -> bool:
    if not isinstance(x, Tensor) or not is_eager():  # torch.fx traces with proxies
        return False
    if not is_plain(norm, nn.LayerNorm) or not is_plain(drop, nn.Dropout) or norm.weight is None or norm.bias is None:
        return False
    if x.device.type != "cpu" or x.dtype != y.dtype or torch.is_autocast_enabled("cpu"):
        return False
    return x.dtype == norm.weight.dtype and round(drop.p * 2**16) < 2**16


class _DropAddNorm(torch.autograd.Function):
    """LayerNorm of X + Y·keep·2¹⁶/kept, where each element of `keep` is 1 with probability kept/2¹⁶, else 0."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, eps: float, kept: int) -> Tensor:
        ctx.scale = 2**16 / kept
        words = torch.empty(-(-y.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = (words.view(torch.int16)[: y.numel()] < kept - 2**15).view(y.shape)
        total = torch.where(keep, y, 0)
        torch.add(x, total, alpha=ctx.scale, out=total)
        out, mean, deviation = torch.native_layer_norm(total, weight.shape, weight, bias, eps)
        ctx.save_for_backward(total, keep, mean, deviation, weight, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        total, keep, mean, deviation, weight, bias = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad, total, weight.shape, mean, deviation, weight, bias, [True, True, True]
        )
        grad_y = torch.where(keep, grad_x, 0).mul_(ctx.scale)
        return grad_x, grad_y, grad_weight, grad_bias, None, None
