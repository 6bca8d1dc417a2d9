"""What the attentions besides SOFT share: the maps to queries, keys and values, the heads, and the map back.

B batch, h heads, N = H·W tokens, d head width, C = h·d.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from soft.errors import SettingError


class MultiHeadAttention(nn.Module):
    """Attention over queries, keys and values of its own; a subclass says what happens between them.

    All maps have a bias, as SOFT's and those of the pyramid's last stage have.

    Args:
        dim: token width C, a multiple of `num_heads`.
        num_heads: h.
        grid: height and width in tokens that the attention is sized for, where that matters to it.
        conv_size: of SOFT's convolution of V. Every attention is handed it; none of these has that convolution.
    """

    float32 = True  # whether `attend` works in float32 or better, also under autocast
    __constants__ = ("float32",)  # TorchScript sees no other class attributes

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], conv_size: int):
        super().__init__()
        if dim % num_heads:
            raise SettingError(f"A width of {dim} does not divide over num_heads={num_heads}.")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C) on their grid (H, W), N = H·W -> (B, N, C)."""
        q, k, v = self._split(x)
        if torch.jit.is_scripting():
            out = self.attend(q, k, v, grid)
        else:
            with without_autocast(x.device.type):
                out = self.attend(q, k, v, grid)
        out = out.transpose(1, 2).flatten(2)
        return self.proj(out.to(self.proj.weight.dtype) if self.float32 else out)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Q, K, V (B, h, N, d), Q not scaled -> (B, h, N, d)."""
        raise NotImplementedError

    def rows(self, q: Tensor, k: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        """Rows of the N×N matrix that `attend` multiplies V with: Q, K (B, h, N, d) -> (B, h, len(queries), N)."""
        raise NotImplementedError

    @torch.no_grad()
    def attention_map(self, x: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        """What the tokens at `queries` take from each token of the input of `forward`: (B, h, len(queries), N).

        Row times V is the attention's output there, before the output map and without a local convolution of V.
        """
        with without_autocast(x.device.type):
            q, k, _ = self._split(x.to(self.qkv.weight.dtype))
            return self.rows(at_least_float32(q), at_least_float32(k), grid, queries)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.float32:
            q, k, v = at_least_float32(q), at_least_float32(k), at_least_float32(v)
        return q, k, v


def at_least_float32(x: Tensor) -> Tensor:
    """`x` itself, or in float32 if it is in half precision."""
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


def without_autocast(device_type: str) -> AbstractContextManager:
    """Autocast switched off, on devices that know it: others, such as meta, refuse even that."""
    return torch.autocast(device_type, enabled=False) if torch.amp.is_autocast_available(device_type) else nullcontext()
