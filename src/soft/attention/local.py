"""The local term of the attention: the k×k depthwise convolution of V (paper, section 3.3)."""

import torch.nn.functional as F
from torch import Tensor, nn


def head_filters(num_heads: int, size: int) -> nn.Conv2d:
    """Build the filters of the convolution, (h, 1, k, k): each head has one, which its channels share."""
    return nn.Conv2d(num_heads, num_heads, size, padding=size // 2, groups=num_heads, bias=False)


def convolve(v: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the convolution of V in operations of PyTorch that can be recorded: (B, h, N, d) -> (B, h, N, d).

    Args:
        v: (B, h, N, d), the tokens of a grid row by row.
        filters: weight of `head_filters`, (h, 1, k, k), in any floating-point type.
        grid: height H and width W in tokens, N = H·W.
    """
    return convolve_tokens(v.transpose(1, 2), filters.to(v.dtype), grid).transpose(1, 2)


def convolve_tokens(tokens: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the same with the tokens first, (B, N, h, d) -> (B, N, h, d), as a new tensor; all in one type."""
    b, _, h, d = tokens.shape
    filters = filters.repeat_interleave(d, 0)
    # Tokens are the rows of a channels-last image, so the convolution over all h·d channels needs no copy of them.
    image = tokens.reshape(b, grid[0], grid[1], h * d).permute(0, 3, 1, 2)
    out = F.conv2d(image, filters, None, 1, filters.shape[-1] // 2, 1, h * d)
    return out.permute(0, 2, 3, 1).reshape(tokens.shape)
