"""Softmax attention, the ordinary Transformer's: quadratic in the number of tokens."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from soft.attention.multihead import MultiHeadAttention


class SoftmaxAttention(MultiHeadAttention):
    """softmax(Q·Kᵀ/√d)·V by PyTorch's fused kernel, in the type that autocast chooses.

    Source: Vaswani et al., "Attention Is All You Need", 2017, equation 1.
    """

    float32 = False  # the fused kernels sum in float32 themselves

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def rows(self, q: Tensor, k: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        return softmax_rows(q[:, :, queries], k)


def softmax_rows(q: Tensor, k: Tensor) -> Tensor:
    """Return softmax(Q·Kᵀ/√d): Q (..., n, d), K (..., m, d) -> (..., n, m)."""
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
