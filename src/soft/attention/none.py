"""No attention: the floor that a comparison of attentions is measured from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from soft.attention.fast.depthwise import fast_convolve
from soft.attention.fast.eager import is_eager
from soft.attention.heads import check_heads, merge_heads, split_heads
from soft.attention.local import convolve, head_filters
from soft.attention.precision import at_least_float32, parameter_type, without_autocast


class NoAttention(nn.Module):
    """X = DWConv(V) alone: SOFT attention without its global term P·A⁺·(Pᵀ·V).

    Tokens mix with their k×k neighbours only. What an attention is worth shows in its distance from this.

    Args:
        dim: token width C, a multiple of `num_heads`.
        num_heads: h.
        grid: not read; any grid runs.
        conv_size: k of the k×k depthwise convolution of V; with 0, tokens do not mix at all.

    Raises:
        SettingError: `dim` is not a multiple of `num_heads`.
    """

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], conv_size: int):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.v = nn.Linear(dim, dim)
        self.local = head_filters(num_heads, conv_size)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return new tokens (B, N, C) of tokens (B, N, C) on their grid (H, W), N = H·W."""
        v = split_heads(self.v(x), self.num_heads)
        if torch.jit.is_scripting():  # TorchScript knows neither autocast's context nor our autograd functions
            x = convolve(at_least_float32(v), self.local.weight, grid)
            return self.proj(merge_heads(x).to(self.proj.weight.dtype))
        x = merge_heads(self.attend(v, grid))
        return self.proj(x.to(parameter_type(self.proj, x.dtype)))

    def attend(self, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the convolution of V in float32 or better, as in SOFT attention: (B, h, N, d) -> (B, h, N, d)."""
        with without_autocast(v.device.type):
            v = at_least_float32(v)
            return fast_convolve(v, self.local.weight, grid) if is_eager() else convolve(v, self.local.weight, grid)

    @torch.no_grad()
    def attention_map(self, x: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        """Return zeros (B, h, len(queries), N): without its local convolution, no token takes anything from another."""
        b, n, _ = x.shape
        return at_least_float32(x).new_zeros(b, self.num_heads, len(queries), n)

    @torch.no_grad()
    def branches(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the global term, which is zero, and the local one, DWConv(V): (B, h, N, d) each."""
        with without_autocast(x.device.type):
            v = self.v(x.to(parameter_type(self.v, x.dtype)))
            v = at_least_float32(split_heads(v, self.num_heads))
            local = convolve(v, self.local.weight, grid)
        return torch.zeros_like(local), local
