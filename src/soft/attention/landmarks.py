"""Landmarks Q̃: the few tokens that stand for all of them (paper, Algorithm 1 line 2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.attention.eager import is_eager
from soft.attention.windows import sample_windows
from soft.errors import SettingError
from soft.settings import check_choice, check_whole

SAMPLINGS = ("conv", "avgpool", "random", "first")
MOST_REPEATED = 4  # times that overlapping windows may hold a token, for a matrix product over them


class LandmarkSampler(nn.Module):
    """Samples `num_landmarks` tokens of each head from the grid, then LayerNorm and GELU.

    Args:
        head_dim: width d of a head.
        grid: height and width in tokens that the sampler is sized for. Another grid runs through it unchanged (as in
            the released code), which changes the number of landmarks for `conv` and `avgpool`.
        num_landmarks: m, a square number with √m no larger than either side of the grid.
        sampling: `conv` (a convolution d→d shared by the heads, as published), `avgpool` (the mean of the same
            windows), `random` (m positions drawn once) or `first` (the first m tokens, the paper's biased sampling).
    """

    def __init__(self, head_dim: int, grid: tuple[int, int], num_landmarks: int = 49, sampling: str = "conv"):
        super().__init__()
        check_choice("sampling", sampling, SAMPLINGS)
        self.sampling = sampling
        self.num_landmarks = num_landmarks
        self.tokens = grid[0] * grid[1]
        side = landmark_side(num_landmarks, grid)
        # SPEC: stride r = 8, 4, 2 at 224 px; in general the largest stride, and the kernel that reaches the far edge.
        self.stride = (grid[0] // side, grid[1] // side)
        self.kernel = (grid[0] - (side - 1) * self.stride[0], grid[1] - (side - 1) * self.stride[1])
        # TorchScript leaves out the branches of `forward` whose part is None.
        self.conv = None
        positions = None
        if sampling == "conv":
            self.conv = nn.Conv2d(head_dim, head_dim, self.kernel, self.stride, bias=False)
        elif sampling == "random":
            # A generator of its own keeps the draw the same in every process and leaves the global one alone.
            order = torch.randperm(self.tokens, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
            positions = order[:num_landmarks].sort().values
        self.register_buffer("positions", positions, persistent=False)
        self.norm = nn.LayerNorm(head_dim)

    def forward(self, q: Tensor, grid: tuple[int, int], scale: float = 1.0) -> Tensor:
        """Queries (B, h, H·W, d) on their grid (H, W) -> landmarks (B, h, m, d) of the queries times `scale`."""
        return self.with_queries(q, grid, scale)[0]

    def with_queries(self, q: Tensor, grid: tuple[int, int], scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """`forward`'s landmarks, and the queries for whatever else needs them, see `sample_windows`."""
        b, h, n, d = q.shape
        if self.sampling == "first":
            sampled = q[:, :, : self.num_landmarks]
        elif self.positions is not None:
            # In proportion, so that they spread over a grid of another size too.
            sampled = q[:, :, self.positions * n // self.tokens]
        else:
            if grid[0] < self.kernel[0] or grid[1] < self.kernel[1]:
                raise SettingError(
                    f"A grid of {grid[0]}x{grid[1]} tokens is smaller than the landmark window of "
                    f"{self.kernel[0]}x{self.kernel[1]}; build the model with img_size set to the input's size."
                )
            if self.conv is not None:
                # Sampling is linear: scaling the filters, or the few samples, is scaling the queries.
                filters = scale * self.conv.weight.to(q.dtype)
                sampled, q = self._convolve(q, filters, grid)
                scale = 1.0
            else:
                x = F.avg_pool2d(_images(q, grid), self.kernel, self.stride)
                sampled = x.flatten(2).transpose(1, 2).reshape(b, h, -1, d)
        if scale != 1:
            sampled = sampled * scale
        normed = F.layer_norm(sampled, [d], self.norm.weight.to(q.dtype), self.norm.bias.to(q.dtype), self.norm.eps)
        return F.gelu(normed), q

    def _convolve(self, q: Tensor, filters: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        b, h, _, d = q.shape
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
            # Windows that overlap a lot hold each token many times.
            if is_eager() and math.prod(self.kernel) <= MOST_REPEATED * math.prod(self.stride):
                rows = filters.permute(0, 2, 3, 1).reshape(d, -1)
                return sample_windows(q, rows, grid, self.kernel, self.stride)
        if self._tiles(grid):
            # The compiler's form of the same.
            (rows, columns), (height, width) = self.stride, (grid[0] // self.stride[0], grid[1] // self.stride[1])
            x = q.reshape(b, h, height, rows, width, columns, d).permute(0, 1, 2, 4, 3, 5, 6)
            x = x.reshape(b, h, height * width, -1)
            return F.linear(x, filters.permute(0, 2, 3, 1).reshape(d, -1)), q
        x = F.conv2d(_images(q, grid), filters, None, self.stride)
        return x.flatten(2).transpose(1, 2).reshape(b, h, -1, d), q

    def _tiles(self, grid: tuple[int, int]) -> bool:
        if self.kernel[0] != self.stride[0] or self.kernel[1] != self.stride[1]:
            return False
        return grid[0] % self.stride[0] == 0 and grid[1] % self.stride[1] == 0


def _images(q: Tensor, grid: tuple[int, int]) -> Tensor:
    """Each head's tokens as an image of their own: (B, h, H·W, d) -> (B·h, d, H, W)."""
    b, h, _, d = q.shape
    return q.reshape(b * h, grid[0], grid[1], d).permute(0, 3, 1, 2)


def landmark_side(num_landmarks: int, grid: tuple[int, int]) -> int:
    """√m, after checking that m is a square that fits the grid."""
    check_whole("num_landmarks", num_landmarks, least=1)
    side = math.isqrt(num_landmarks)
    if side * side != num_landmarks:
        raise SettingError(
            f"num_landmarks={num_landmarks} is not a square number; the nearest are {side**2} and {(side + 1) ** 2}."
        )
    if side > min(grid):
        raise SettingError(
            f"num_landmarks={num_landmarks} ({side}x{side}) is larger than a stage's grid of {grid[0]}x{grid[1]} "
            f"tokens; use at most {min(grid) ** 2}, or a larger img_size."
        )
    return side
