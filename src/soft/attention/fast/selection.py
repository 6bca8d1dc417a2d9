"""The one place that selects which form of SOFT's attention core runs in eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from soft.attention.fast.fused import fused_attention
from soft.attention.fast.windows import sample_landmarks

if TYPE_CHECKING:
    from soft.attention.soft import SoftAttention

# Computes X from an attention's weights, Q, V (B, h, N, d) in float32 or float64, and the grid, as `compose` does.
Core = Callable[["SoftAttention", Tensor, Tensor, tuple[int, int]], Tensor]


def select_core() -> Core:
    """Return the core for eager PyTorch; an attention asks once, when it is built.

    Compilers, exporters, tracers and TorchScript never see it: they get `SoftAttention.compose`, in operations that
    they know and fuse themselves.
    """
    return fused_core


def fused_core(attention: SoftAttention, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return X of Q and V (B, h, N, d), by one autograd function for the landmarks and one for all else."""
    landmarks, q = sample_landmarks(attention.landmarks, q, grid, attention.scale)
    filters = attention.local.weight.to(v.dtype)
    q, v = q.transpose(1, 2), v.transpose(1, 2)
    x = fused_attention(
        q,
        landmarks,
        v,
        filters,
        grid,
        attention.scale,
        attention.fast_inverse,
        attention.normalised,
        attention.global_factor(grid),
    )
    return x.transpose(1, 2)
