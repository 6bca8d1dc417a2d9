"""The k×k convolution of V: one filter for each head, shared by the head's channels (paper, section 3.3).

Tokens (B, N, h, d) are the rows of a channels-last image, so no image is copied. h heads, d head width, grid (H, W).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve(tokens: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Each head's filter (h, 1, k, k) over each of its channels; (B, N, h, d) -> new (B, N, h, d)."""
    b, _, h, d = tokens.shape
    filters = filters.repeat_interleave(d, 0)
    image = tokens.reshape(b, *grid, h * d).permute(0, 3, 1, 2)
    out = F.conv2d(image, filters, None, 1, filters.shape[-1] // 2, 1, h * d)
    return out.permute(0, 2, 3, 1).reshape(tokens.shape)


def filter_gradient(tokens: Tensor, grad: Tensor, size: int, grid: tuple[int, int]) -> Tensor:
    """Gradient of `convolve`'s filters, (h, 1, size, size), from its input and the gradient of its output.

    oneDNN's channels-last kernel for this is six times slower above a width of 3, so on a CPU the columns go in threes.
    """
    b, _, h, d = tokens.shape
    image, grad = (x.reshape(b, *grid, h * d) for x in (tokens, grad))
    if tokens.device.type != "cpu" or size <= 3:
        by_channel = _columns(image, grad, size, size, size // 2)
    else:
        by_channel = _in_threes(image, grad, size)
    return by_channel.view(h, d, 1, size, -1).sum(1)


def _in_threes(image: Tensor, grad: Tensor, size: int) -> Tensor:
    # Rows are widened by zeros on both sides. Three columns further, the image is the same memory three pixels on: what
    # then wraps around from the next row meets the zeros that widen the rows of the gradient.
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
    """Pixels (B·H·(left + W + right) + more, C) of images (B, H, W, C), zero beside the rows and behind the last."""
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
    """Gradient of filters (C, 1, height, width) with `padding` columns, of channels-last images (B, H, W, C)."""
    channels = image.shape[-1]
    like = image.new_empty(channels, 1, height, width)
    image, grad = image.permute(0, 3, 1, 2), grad.permute(0, 3, 1, 2)
    pads, mask = [height // 2, padding], [False, True, False]
    return torch.ops.aten.convolution_backward(
        grad, image, like, None, [1, 1], pads, [1, 1], False, [0, 0], channels, mask
    )[1]
