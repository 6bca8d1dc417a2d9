"""What the attentions with queries, keys and values of their own share: linear maps and heads.

Shapes: B batch, h heads, N = H·W tokens, d head width, C = h·d.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from soft.attention.heads import check_heads, merge_heads
from soft.attention.precision import at_least_float32, parameter_type, without_autocast


class MultiHeadAttention(nn.Module):
    """Attention over queries, keys and values of its own; a subclass says what happens between them.

    All maps have a bias, as the maps of SOFT attention and of the pyramid's last stage do.

    Args:
        dim: token width C, a multiple of `num_heads`.
        num_heads: h.
        grid: height and width in tokens, for subclasses that are sized for them.
        conv_size: k of SOFT's convolution of V. Every attention is given it; these do not have that convolution.
            Nyströmformer has one of its own, which a size of 0 leaves out.

    Raises:
        SettingError: `dim` is not a multiple of `num_heads`.
    """

    float32 = True  # whether `attend` works in float32 or better, also under autocast
    __constants__ = ("float32",)  # TorchScript sees no other class attributes

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], conv_size: int):
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return new tokens (B, N, C) of tokens (B, N, C) on their grid (H, W), N = H·W."""
        q, k, v = self._split(x)
        if torch.jit.is_scripting():  # TorchScript does not know autocast's context
            out = merge_heads(self.attend(q, k, v, grid))
            return self.proj(out.to(self.proj.weight.dtype) if self.float32 else out)
        with without_autocast(x.device.type):
            out = merge_heads(self.attend(q, k, v, grid))
        return self.proj(out.to(parameter_type(self.proj, out.dtype)) if self.float32 else out)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the output of the heads: Q, K, V (B, h, N, d) -> (B, h, N, d); Q is not scaled."""
        raise NotImplementedError

    def rows(self, q: Tensor, k: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        """Return rows of the N×N matrix that `attend` multiplies V with.

        Q, K (B, h, N, d) -> (B, h, len(queries), N).
        """
        raise NotImplementedError

    @torch.no_grad()
    def branches(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return what the output map gets for the input of `forward`, and a local term of zeros: (B, h, N, d) each.

        Subclasses with a local convolution tell the two apart.
        """
        with without_autocast(x.device.type):
            q, k, v = self._split(x.to(parameter_type(self.qkv, x.dtype)))
            out = at_least_float32(self.attend(q, k, v, grid))
            return out, torch.zeros_like(out)

    @torch.no_grad()
    def attention_map(self, x: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        """Return what the tokens at `queries` take from each token of `forward`'s input: (B, h, len(queries), N).

        Row times V is the attention's output there, before the output map and without a local convolution of V.
        """
        with without_autocast(x.device.type):
            q, k, _ = self._split(x.to(parameter_type(self.qkv, x.dtype)))
            return self.rows(at_least_float32(q), at_least_float32(k), grid, queries)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.float32:
            q, k, v = at_least_float32(q), at_least_float32(k), at_least_float32(v)
        return q, k, v
