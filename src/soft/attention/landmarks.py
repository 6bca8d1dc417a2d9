"""Landmarks Q̃: the few tokens that stand for all of them (paper, Algorithm 1 line 2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.errors import SettingError
from soft.settings import check_choice, check_positive, check_whole

AUTO = "auto"  # the gain `alive_gain`; not None, because timm.create_model drops arguments that are None
SAMPLINGS = ("conv", "avgpool", "random", "first")


class LandmarkSampler(nn.Module):
    """Samples `num_landmarks` tokens of each head from the grid, then applies LayerNorm and GELU.

    Args:
        head_dim: width d of a head.
        grid: height and width in tokens that the sampler is sized for. On another grid the windows stay as they are (as
            in the released code), which changes the number of landmarks for `conv` and `avgpool`; with the attribute
            `dynamic` set, queries are first averaged onto `grid`, which keeps the number.
        num_landmarks: m, a square number with √m no larger than either side of the grid. On a sequence, which is a grid
            of one row, any number up to its length.
        sampling: `conv` (a convolution d→d shared by the heads, as published), `avgpool` (the mean of the same
            windows), `random` (m positions drawn once) or `first` (the first m tokens, the paper's biased sampling).
        gain: initial weight of the LayerNorm, above 0; 1 as published, `auto` for `alive_gain(head_dim)`. With
            a smaller one landmarks start nearer to the origin, and the kernel starts wider.

    Raises:
        SettingError: an unknown sampling, or a number of landmarks or a gain that does not fit.
    """

    def __init__(
        self,
        head_dim: int,
        grid: tuple[int, int],
        num_landmarks: int = 49,
        sampling: str = "conv",
        gain: float | str = 1.0,
    ):
        super().__init__()
        check_choice("sampling", sampling, SAMPLINGS)
        if gain != AUTO:
            check_positive("landmark_gain", gain, otherwise="auto for 2/√d")
        self.sampling = sampling
        self.num_landmarks = num_landmarks
        self.grid = (grid[0], grid[1])
        self.dynamic = False
        self.tokens = grid[0] * grid[1]
        rows, columns = landmark_grid(num_landmarks, grid)
        # At 224 px the published strides of 8, 4 and 2 follow; in general it is the largest stride that fits, and the
        # kernel that reaches the far edge.
        self.stride = (grid[0] // rows, grid[1] // columns)
        self.kernel = (grid[0] - (rows - 1) * self.stride[0], grid[1] - (columns - 1) * self.stride[1])
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
        nn.init.constant_(self.norm.weight, alive_gain(head_dim) if gain == AUTO else gain)

    def forward(self, q: Tensor, grid: tuple[int, int], scale: float = 1.0) -> Tensor:
        """Return the landmarks (B, h, m, d) of `scale` times the queries (B, h, H·W, d) on their grid (H, W).

        Raises:
            SettingError: the grid is smaller than a landmark's window, and `dynamic` is not set.
        """
        b, h, n, d = q.shape
        if self.sampling == "first":
            return self.activate(scale * q[:, :, : self.num_landmarks])
        if self.positions is not None:
            # Positions grow with the number of tokens, so that they spread over a grid of another size too.
            return self.activate(scale * q[:, :, self.positions * n // self.tokens])
        if self.resizes(grid):
            q, grid = F.adaptive_avg_pool2d(_images(q, grid), self.grid).flatten(2).mT.reshape(b, h, -1, d), self.grid
        self.check_grid(grid)
        if self.conv is not None:
            return self.activate(self._convolve(q, self.scaled_filters(q, scale), grid))
        pooled = F.avg_pool2d(_images(q, grid), self.kernel, self.stride)
        return self.activate(scale * pooled.flatten(2).transpose(1, 2).reshape(b, h, -1, d))

    def resizes(self, grid: tuple[int, int]) -> bool:
        """Return whether queries on this grid are averaged onto the sampler's own grid first."""
        return self.dynamic and (grid[0] != self.grid[0] or grid[1] != self.grid[1])

    def activate(self, sampled: Tensor) -> Tensor:
        """Return LayerNorm and GELU of what was sampled, (B, h, m, d) -> (B, h, m, d)."""
        weight, bias = self.norm.weight.to(sampled.dtype), self.norm.bias.to(sampled.dtype)
        return F.gelu(F.layer_norm(sampled, [sampled.shape[-1]], weight, bias, self.norm.eps))

    def scaled_filters(self, q: Tensor, scale: float) -> Tensor:
        """Return `scale` times the filters (d, d, kernel height, kernel width), in the type of `q`.

        Sampling is linear: scaling the filters is scaling the queries, and takes less.
        """
        return scale * self.conv.weight.to(q.dtype)

    def check_grid(self, grid: tuple[int, int]) -> None:
        """Refuse a grid that is smaller than a landmark's window."""
        if grid[0] < self.kernel[0] or grid[1] < self.kernel[1]:
            raise SettingError(
                f"A grid of {grid[0]}x{grid[1]} tokens is smaller than the landmark window of "
                f"{self.kernel[0]}x{self.kernel[1]}; build the model with img_size set to the input's size, or with "
                "dynamic_img_size=True."
            )

    def _convolve(self, q: Tensor, filters: Tensor, grid: tuple[int, int]) -> Tensor:
        b, h, _, d = q.shape
        if self._tiles(grid):
            # Where windows tile the grid, the convolution is a matrix product, which compilers do faster.
            (rows, columns), (height, width) = self.stride, (grid[0] // self.stride[0], grid[1] // self.stride[1])
            x = q.reshape(b, h, height, rows, width, columns, d).permute(0, 1, 2, 4, 3, 5, 6)
            x = x.reshape(b, h, height * width, -1)
            return F.linear(x, filters.permute(0, 2, 3, 1).reshape(d, -1))
        x = F.conv2d(_images(q, grid), filters, None, self.stride)
        return x.flatten(2).transpose(1, 2).reshape(b, h, -1, d)

    def _tiles(self, grid: tuple[int, int]) -> bool:
        if self.kernel[0] != self.stride[0] or self.kernel[1] != self.stride[1]:
            return False
        return grid[0] % self.stride[0] == 0 and grid[1] % self.stride[1] == 0


def _images(q: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return each head's tokens as an image of their own: (B, h, H·W, d) -> (B·h, d, H, W)."""
    b, h, _, d = q.shape
    return q.reshape(b * h, grid[0], grid[1], d).permute(0, 3, 1, 2)


def landmark_grid(num_landmarks: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the landmarks: √m and √m, or 1 and m on a grid of one row (m and 1 on one column).

    Raises:
        SettingError: the number does not fit the grid, see `landmark_side`, or is more than the sequence has tokens.
    """
    if min(grid) > 1:
        side = landmark_side(num_landmarks, grid)
        return side, side
    check_whole("num_landmarks", num_landmarks, 1)
    if num_landmarks > max(grid):
        raise SettingError(
            f"num_landmarks={num_landmarks} is more than the {max(grid)} tokens of a stage's grid of {grid[0]}x"
            f"{grid[1]}; use at most {max(grid)}."
        )
    return (1, num_landmarks) if grid[0] == 1 else (num_landmarks, 1)


def landmark_side(num_landmarks: int, grid: tuple[int, int]) -> int:
    """Return √m, after checking that m is a square that fits the grid.

    Raises:
        SettingError: m is not a square number, or √m is larger than a side of the grid.
    """
    check_whole("num_landmarks", num_landmarks, 1)
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


def alive_gain(head_dim: int) -> float:
    """Return 2/√d, the gain with which the kernel has about its largest gradient at the start, for heads of width d.

    LayerNorm and GELU give landmarks the squared length ‖Q̃‖² = d·E[GELU(γz)²] ≈ d·γ²/4, for a small gain γ and normal
    z, whatever the tokens, N and m are. Queries start much shorter. So r = ‖q − Q̃‖ is about γ·√d/2, and the gradient
    of the kernel, r·exp(−r²/2), is largest at r = 1. There the kernel is exp(−½) = 0.61; at the published gain of 1 and
    d = 32 it is 0.001, and its gradient 0.7 % of the largest. The derivation is our own and not the paper's.
    """
    return 2 / math.sqrt(head_dim)
