"""Heads of an attention: B batch, h heads, N tokens, d head width, C = h·d."""

from torch import Tensor

from soft.errors import SettingError


def check_heads(dim: int, num_heads: int) -> None:
    """Refuse a width C that is not a multiple of the number of heads."""
    if dim % num_heads:
        raise SettingError(f"A width of {dim} does not divide over num_heads={num_heads}.")


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Return tokens (B, N, C) as a view (B, h, N, d)."""
    b, n, _ = x.shape
    return x.view(b, n, num_heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Return what the heads hold, (B, h, N, d), as tokens (B, N, C)."""
    return x.transpose(1, 2).flatten(2)
