"""SOFT attention, plain and normalised (paper, Algorithm 1; the normalised form is the IJCV extension).

`soft.attention.reference` has the definition. Shapes: B batch, h heads, N = H·W tokens, d head width, m landmarks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from soft.attention.fast.eager import is_eager
from soft.attention.fast.early_stop import fast_inverse
from soft.attention.fast.selection import Core, check_choice_of_kernels, eager_core, recorded_core
from soft.attention.fast.windows import sample_landmarks
from soft.attention.gaussian import gaussian_kernel
from soft.attention.heads import check_heads, merge_heads, split_heads
from soft.attention.landmarks import AUTO, LandmarkSampler
from soft.attention.local import convolve, head_filters
from soft.attention.newton import INVERSES, inverse_residual, kernel_inverse
from soft.attention.precision import (
    at_least_float32,
    ieee_products,
    parameter_type,
    without_autocast,
    without_float16_autocast,
)
from soft.settings import check_choice, check_positive, check_whole

SUM = "sum"  # the global scale of the published form; timm.create_model drops arguments that are None
BALANCED = 16.0  # the global scale that suits a wider kernel, see docs/attention.md


class SoftAttention(nn.Module):
    """X = P·A⁺·(Pᵀ·V) + DWConv(V), with K = Q, then an output map over the heads.

    Args:
        dim: token width C, a multiple of `num_heads`.
        num_heads: h.
        grid: height and width in tokens that the landmark sampler is sized for.
        conv_size: k of the k×k depthwise convolution of V: 9, 5, 3 in stages 1 to 3; 0 for none.
        num_landmarks: m, a square number, or any number on a grid of one row.
        newton_iters: T of Algorithm 2.
        sampling: how landmarks are taken, see `LandmarkSampler`.
        inverse: `newton`, `cholesky` or `svd`, see `kernel_inverse`.
        landmark_gain: initial gain of the landmarks' LayerNorm: 1 as published; `auto` for 2/√d, see
            `soft.attention.landmarks.alive_gain`.
        global_scale: c, above 0; P·A⁺·(Pᵀ·V) is then multiplied by c/N. As a sum over N tokens it grows with N, which
            the local term does not; with c/N the two keep their proportion on every grid. `sum`, or None, for the sum
            as published; `auto` for the sum if the gain is the published 1, and for 16 otherwise.
        kernels: what computes the core: `torch`; `triton`, for NVIDIA GPUs of compute capability 8.0 or more, heads of
            at most 64 channels, 64 landmarks and the inverse `newton`; or `auto`, which is `triton` where it runs and
            agrees with `torch`. Exported, traced and scripted modules are always `torch`.

    Raises:
        SettingError: a value that is not known or does not fit.
    """

    normalised = False
    __constants__ = ("normalised",)  # TorchScript sees no other class attributes
    __jit_ignored_attributes__ = ("core",)

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: tuple[int, int],
        conv_size: int,
        num_landmarks: int = 49,
        newton_iters: int = 20,
        sampling: str = "conv",
        inverse: str = "newton",
        landmark_gain: float | str = 1.0,
        global_scale: float | str | None = None,
        kernels: str = "auto",
    ):
        super().__init__()
        check_whole("newton_iters", newton_iters, 1)
        if global_scale == AUTO:
            global_scale = SUM if landmark_gain == 1 else BALANCED
        if global_scale == SUM:
            global_scale = None
        if global_scale is not None:
            check_positive("global_scale", global_scale, otherwise="sum for the sum as published, or auto")
        check_choice("inverse", inverse, INVERSES)
        check_heads(dim, num_heads)
        check_choice_of_kernels(kernels, inverse, num_landmarks, dim // num_heads)
        self.num_heads = num_heads
        self.kernels = kernels
        self.newton_iters = newton_iters
        self.inverse = inverse
        self.global_scale = global_scale
        self.scale = (dim // num_heads) ** -0.25
        self.core: Core = eager_core
        self.q = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.landmarks = LandmarkSampler(dim // num_heads, grid, num_landmarks, sampling, landmark_gain)
        self.local = head_filters(num_heads, conv_size)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return new tokens (B, N, C) of tokens (B, N, C) on their grid (H, W), N = H·W."""
        q, v = split_heads(self.q(x), self.num_heads), split_heads(self.v(x), self.num_heads)
        if torch.jit.is_scripting():  # TorchScript knows neither autocast's context nor our autograd functions
            x = self.compose(at_least_float32(q), at_least_float32(v), grid)
            return self.proj(merge_heads(x).to(self.proj.weight.dtype))
        x = merge_heads(self.attend(q, v, grid))
        x = x.to(parameter_type(self.proj, x.dtype))
        # X reaches N·|V|, which float16 may not hold.
        with without_float16_autocast(x.device.type):
            return self.proj(x)

    def attend(self, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return X of Algorithm 1 without the linear maps, in float32 or better: Q, V (B, h, N, d) -> (B, h, N, d).

        Autocast is off inside: the kernel's exponent cancels, the inverse amplifies, and Pᵀ·V sums N values, which
        overflows float16.
        """
        with without_autocast(q.device.type):
            q, v = at_least_float32(q), at_least_float32(v)
            if not is_eager():
                return recorded_core(self, q, v, grid)
            with ieee_products():
                return self.core(self, q, v, grid)

    def compose(self, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return X as `attend` does, in operations of PyTorch that can be recorded; Q, V in float32 or float64."""
        landmarks = self.landmarks(q, grid, self.scale)
        p, a = gaussian_kernel(q * self.scale, landmarks), gaussian_kernel(landmarks, landmarks)
        inverse = kernel_inverse(a, self.inverse, self.newton_iters, self.normalised)
        factor = self.global_factor(grid)
        if factor != 1.0:
            inverse = factor * inverse
        # In this order nothing costs more than N·m·d.
        x = p @ (inverse @ (p.transpose(-2, -1) @ v))
        return x + convolve(v, self.local.weight, grid)

    def fast_inverse(self, a: Tensor) -> Tensor:
        """Return `kernel_inverse` of A with this attention's settings, (B, h, m, m), without a gradient."""
        return fast_inverse(a, self.inverse, self.newton_iters, self.normalised)

    def global_factor(self, grid: tuple[int, int]) -> float:
        """Return what the global term is multiplied by on this grid: 1 as published, or c/N.

        With a dynamic sampler it is the number of tokens that the sampler is sized for over N: the sum over all tokens
        then stays as large as on the sampler's own grid.
        """
        if self.global_scale is not None:
            return self.global_scale / (grid[0] * grid[1])
        if self.landmarks.dynamic:
            return self.landmarks.tokens / (grid[0] * grid[1])
        return 1.0

    @torch.no_grad()
    def newton_residual(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return ‖I − A·A⁺‖_F / √m for each image and head of the input of `forward`, (B, h)."""
        with without_autocast(x.device.type), ieee_products():
            landmarks, _ = sample_landmarks(self.landmarks, self._queries(x), grid, self.scale)
            a = gaussian_kernel(landmarks, landmarks)
            return inverse_residual(a, self.fast_inverse(a), self.normalised)

    @torch.no_grad()
    def attention_map(self, x: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        """Return rows of P·A⁺·Pᵀ, what the tokens at `queries` take from each token: (B, h, len(queries), N).

        Row times V is the attention's output there, before the output map and without the convolution of V.
        """
        with without_autocast(x.device.type), ieee_products():
            p, a = self._kernels(x, grid)
            return self.global_factor(grid) * p[:, :, queries] @ self.fast_inverse(a) @ p.transpose(-2, -1)

    @torch.no_grad()
    def branches(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the two terms of X for the input of `forward`: P·A⁺·(Pᵀ·V) and DWConv(V), (B, h, N, d) each.

        Their sum is what the output map gets. They are computed for this call, in float32 or better; `forward` keeps
        neither.
        """
        with without_autocast(x.device.type), ieee_products():
            p, a = self._kernels(x, grid)
            v = self.v(x.to(parameter_type(self.v, x.dtype)))
            v = at_least_float32(split_heads(v, self.num_heads))
            x = p @ (self.global_factor(grid) * self.fast_inverse(a) @ (p.transpose(-2, -1) @ v))
            return x, convolve(v, self.local.weight, grid)

    @torch.no_grad()
    def kernel_mean(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the mean of P for each image and head of the input of `forward`, (B, h).

        Near 0 no token is close to a landmark, near 1 every token is close to all: either way P tells no tokens apart.
        """
        with without_autocast(x.device.type), ieee_products():
            return self._kernels(x, grid)[0].mean((-2, -1))

    def _kernels(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return P (B, h, N, m) and A (B, h, m, m) of the input of `forward`, in float32 or better."""
        q = self._queries(x)
        landmarks, _ = sample_landmarks(self.landmarks, q, grid, self.scale)
        return gaussian_kernel(q * self.scale, landmarks), gaussian_kernel(landmarks, landmarks)

    def _queries(self, x: Tensor) -> Tensor:
        """Return Q (B, h, N, d) of the input of `forward`, in float32 or better; autocast has to be off."""
        return at_least_float32(split_heads(self.q(x.to(parameter_type(self.q, x.dtype))), self.num_heads))


class NormalisedSoftAttention(SoftAttention):
    """SOFT attention with D^(−½)·A⁺·D^(−½) in place of A⁺, D the row sums of A (IJCV, "soft_norm")."""

    normalised = True
