"""The depthwise convolution of V with a gradient of its own.

Shapes: tokens (B, N, h, d) of a grid (H, W), N = H·W; one filter (1, k, k) for each of h heads, shared by d channels.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from soft.attention.local import convolve_tokens


def fast_convolve(v: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return `convolve`'s result, (B, h, N, d); the filters get their gradient from `filter_gradient`."""
    return _Convolution.apply(v.transpose(1, 2), filters.to(v.dtype), grid).transpose(1, 2)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tokens: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(tokens, filters)
        ctx.grid = grid
        return convolve_tokens(tokens, filters, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, filters = ctx.saved_tensors
        grad = grad.contiguous()
        grad_tokens = convolve_tokens(grad, filters.flip(2, 3), ctx.grid) if ctx.needs_input_grad[0] else None
        grad_filters = None
        if ctx.needs_input_grad[1]:
            grad_filters = filter_gradient(tokens, grad, filters.shape[-1], ctx.grid)
        return grad_tokens, grad_filters, None


def filter_gradient(tokens: Tensor, grad: Tensor, size: int, grid: tuple[int, int]) -> Tensor:
    """Return the gradient of the filters of `convolve_tokens`, (h, 1, size, size).

    On a CPU the columns of filters wider than 3 are computed in threes, because oneDNN's channels-last kernel for this
    gradient is six times slower on wider filters.

    Args:
        tokens: input of `convolve_tokens`, (B, N, h, d).
        grad: gradient of its output, (B, N, h, d).
        size: width and height k of a filter.
        grid: height and width in tokens.
    """
    b, _, h, d = tokens.shape
    image, grad = (x.reshape(b, *grid, h * d) for x in (tokens, grad))
    if tokens.device.type != "cpu" or size <= 3:
        by_channel = _columns(image, grad, size, size, size // 2)
    else:
        by_channel = _in_threes(image, grad, size)
    return by_channel.view(h, d, 1, size, -1).sum(1)


def _in_threes(image: Tensor, grad: Tensor, size: int) -> Tensor:
    # Zeros widen the rows on both sides. The image moved by three columns is then the same memory, read from three
    # pixels further on: the pixels that it takes from the next row meet the zeros that widen the gradient's rows.
    b, height, width, channels = image.shape
    reach, columns = size // 2, 3 * -(-size // 3)
    pixels = _widen(image, reach, columns - 1 - reach, columns - 3)
    grad = _widen(grad, 0, columns - 3, 0).view(b, height, -1, channels)
    wide = width + columns - 1
    area = b * height * wide
    threes = [
        _columns(pixels[first : first + area].view(b, height, wide, channels), grad, size, 3, 0)
        for first in range(0, columns, 3)
    ]
    return torch.cat(threes, -1)[..., :size]


def _widen(image: Tensor, left: int, right: int, more: int) -> Tensor:
    """Return the pixels (B·H·(left + W + right) + more, C) of images (B, H, W, C), with zeros beside and behind them.

    Each row gets `left` and `right` zeros; `more` zeros follow the last row.
    """
    b, height, width, channels = image.shape
    area = b * height * (left + width + right)
    pixels = image.new_empty(area + more, channels)
    pixels[area:] = 0
    rows = pixels[:area].view(b, height, -1, channels)
    rows[:, :, :left] = 0
    rows[:, :, left + width :] = 0
    rows[:, :, left : left + width] = image
    return pixels


def _columns(image: Tensor, grad: Tensor, height: int, width: int, padding: int) -> Tensor:
    """Return the gradient of filters (C, 1, height, width) on images (B, H, W, C) with `padding` columns added."""
    channels = image.shape[-1]
    like = image.new_empty(channels, 1, height, width)
    image, grad = image.permute(0, 3, 1, 2), grad.permute(0, 3, 1, 2)
    pads, mask = [height // 2, padding], [False, True, False]
    return torch.ops.aten.convolution_backward(
        grad, image, like, None, [1, 1], pads, [1, 1], False, [0, 0], channels, mask
    )[1]
