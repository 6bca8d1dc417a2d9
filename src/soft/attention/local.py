"""The local term of the attention: the k×k depthwise convolution of V (paper, section 3.3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from soft.errors import SettingError


def head_filters(num_heads: int, size: int) -> nn.Conv2d:
    """Build the filters of the convolution, (h, 1, k, k): each head has one, which its channels share.

    Args:
        num_heads: h.
        size: k, odd; 0 for no convolution, see `leave_out`.

    Raises:
        SettingError: `size` is neither 0 nor an odd number.
    """
    if size and (not isinstance(size, int) or size < 0 or size % 2 == 0):
        raise SettingError(f"conv_size={size!r} has to be an odd number, or 0 for no convolution.")
    filters = nn.Conv2d(num_heads, num_heads, size or 1, padding=size // 2, groups=num_heads, bias=False)
    return filters if size else leave_out(filters)


def leave_out(filters: nn.Conv2d) -> nn.Conv2d:
    """Return the filters as zeros that are not trained, so that their convolution adds nothing, now and later."""
    nn.init.zeros_(filters.weight)
    filters.weight.requires_grad_(False)
    return filters


def convolve(v: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the convolution of V in operations of PyTorch that can be recorded: (B, h, N, d) -> (B, h, N, d).

    Args:
        v: (B, h, N, d), the tokens of a grid row by row.
        filters: weight of `head_filters`, (h, 1, k, k), in any floating-point type.
        grid: height H and width W in tokens, N = H·W.
    """
    return convolve_tokens(v.transpose(1, 2), filters.to(v.dtype), grid).transpose(1, 2)


def convolve_tokens(tokens: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the convolution of V as `convolve` does, with the tokens first: (B, N, h, d) -> (B, N, h, d).

    The result is a new tensor. Tokens and filters have the same type.
    """
    b, _, h, d = tokens.shape
    filters = filters.repeat_interleave(d, 0)
    # Tokens are the rows of a channels-last image, so the convolution over all h·d channels needs no copy of them.
    image = tokens.reshape(b, grid[0], grid[1], h * d).permute(0, 3, 1, 2)
    out = F.conv2d(image, filters, None, 1, filters.shape[-1] // 2, 1, h * d)
    return out.permute(0, 2, 3, 1).reshape(tokens.shape)
