"""Linformer attention: keys and values projected from N tokens to m, by weights learned for each position."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.attention.multihead import MultiHeadAttention
from soft.attention.softmax import softmax_rows
from soft.settings import check_whole


class LinformerAttention(MultiHeadAttention):
    """softmax(Q·(EᵀK)ᵀ/√d)·(EᵀV), E (N, m).

    Source: Wang et al., "Linformer: Self-Attention with Linear Complexity", 2020, equation 7, with the paper's
    key-value sharing: one E per layer for keys, values and all heads.

    E belongs to the grid that it is built for. On another grid of N′ tokens it is resized bilinearly and scaled by
    N/N′, so that a projected key keeps its magnitude. (The package linformer takes the first N′ rows of E instead.)

    Args:
        dim, num_heads, grid, conv_size: see `MultiHeadAttention`.
        num_landmarks: m, which the paper calls k; it has the other attentions' name so that one setting compares them.
    """

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], conv_size: int, num_landmarks: int = 49):
        super().__init__(dim, num_heads, grid, conv_size)
        check_whole("num_landmarks", num_landmarks, 1)
        self.grid = grid
        self.projection = nn.Parameter(torch.empty(grid[0] * grid[1], num_landmarks))
        nn.init.uniform_(self.projection, -(num_landmarks**-0.5), num_landmarks**-0.5)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        project = self.projection_on(grid).to(q.dtype).t()
        return F.scaled_dot_product_attention(q, project @ k, project @ v)

    def rows(self, q: Tensor, k: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        project = self.projection_on(grid).to(q.dtype).t()
        return softmax_rows(q[:, :, queries], project @ k) @ project

    def projection_on(self, grid: tuple[int, int]) -> Tensor:
        """Return E for the tokens of `grid`, (H·W, m)."""
        if grid[0] == self.grid[0] and grid[1] == self.grid[1]:
            return self.projection
        maps = self.projection.t().reshape(1, -1, self.grid[0], self.grid[1])
        maps = F.interpolate(maps, size=[grid[0], grid[1]], mode="bilinear", align_corners=False)
        return maps.flatten(2)[0].t() * (self.grid[0] * self.grid[1] / (grid[0] * grid[1]))
