"""SOFT attention, plain and normalised (paper, Algorithm 1; the normalised form is the IJCV extension).

B batch, h heads, N = H·W tokens, d head width, m landmarks.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.attention.eager import is_eager
from soft.attention.fused import fused_attention
from soft.attention.gaussian import gaussian_kernel
from soft.attention.landmarks import LandmarkSampler
from soft.attention.multihead import at_least_float32
from soft.attention.newton import INVERSES, inverse_residual, kernel_inverse
from soft.errors import SettingError
from soft.settings import check_choice, check_whole


class SoftAttention(nn.Module):
    """X = P·A⁺·(Pᵀ·V) + DWConv(V), with K = Q, then an output map over the heads.

    Args:
        dim: token width C, a multiple of `num_heads`.
        num_heads: h.
        grid: height and width in tokens that the landmark sampler is sized for.
        conv_size: k of the k×k depthwise convolution of V: 9, 5, 3 in stages 1 to 3.
        num_landmarks: m, a square number.
        newton_iters: T of Algorithm 2.
        sampling: how landmarks are taken, see `LandmarkSampler`.
        inverse: `newton`, `cholesky` or `svd`, see `kernel_inverse`.
    """

    normalised = False
    __constants__ = ("normalised",)  # TorchScript sees no other class attributes

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
    ):
        super().__init__()
        check_whole("newton_iters", newton_iters, least=1)
        check_choice("inverse", inverse, INVERSES)
        if dim % num_heads:
            raise SettingError(f"A width of {dim} does not divide over num_heads={num_heads}.")
        self.num_heads = num_heads
        self.newton_iters = newton_iters
        self.inverse = inverse
        self.scale = (dim // num_heads) ** -0.25
        self.q = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.landmarks = LandmarkSampler(dim // num_heads, grid, num_landmarks, sampling)
        # One filter per head, shared by the head's channels.
        self.local = nn.Conv2d(num_heads, num_heads, conv_size, padding=conv_size // 2, groups=num_heads, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens (B, N, C) on their grid (H, W), N = H·W -> (B, N, C)."""
        b, n, c = x.shape
        q = self.q(x).view(b, n, self.num_heads, -1).transpose(1, 2)
        v = self.v(x).view(b, n, self.num_heads, -1).transpose(1, 2)
        out = self.attend(q, v, grid).transpose(1, 2).reshape(b, n, c)
        return self._project(out)

    def attend(self, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        """The attention core, SPEC 1.1 to 1.5: Q, V (B, h, N, d) -> X (B, h, N, d) in float32 or better.

        Autocast is off inside: the kernel's exponent cancels, the inverse amplifies, and Pᵀ·V sums N values, which
        overflows float16.
        """
        if torch.jit.is_scripting():
            return self._attend(q, v, grid)
        with _without_autocast(q.device.type):
            return self._attend(q, v, grid)

    def _attend(self, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        if q.dtype == torch.float16 or q.dtype == torch.bfloat16:
            q, v = q.float(), v.float()
        landmarks, q = self.landmarks.with_queries(q, grid, self.scale)
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
            if is_eager():
                filters = self.local.weight.to(v.dtype)
                q, v = q.transpose(1, 2), v.transpose(1, 2)
                x = fused_attention(q, landmarks, v, filters, grid, self.scale, self._invert, self.normalised)
                return x.transpose(1, 2)
        return self._compose(q * self.scale, landmarks, v, grid)

    def _invert(self, a: Tensor) -> Tensor:
        return kernel_inverse(a, self.inverse, self.newton_iters, self.normalised)

    def _compose(self, q: Tensor, landmarks: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        b, h, n, d = v.shape
        p, inverse = gaussian_kernel(q, landmarks), self._invert(gaussian_kernel(landmarks, landmarks))
        # In this order nothing costs more than N·m·d.
        x = p @ (inverse @ (p.transpose(-2, -1) @ v))
        # Tokens are the rows of a channels-last image, so the convolution over all h·d channels needs no copy of V.
        image = v.transpose(1, 2).reshape(b, grid[0], grid[1], h * d).permute(0, 3, 1, 2)
        filters = self.local.weight.to(v.dtype).repeat_interleave(d, dim=0)
        local = F.conv2d(image, filters, None, 1, self.local.padding, 1, h * d)
        return x + local.permute(0, 2, 3, 1).reshape(b, n, h, d).transpose(1, 2)

    def _project(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, so that scripting skips all of it
            if _autocasts_to_float16(x.device.type):
                # X reaches N·|V|, beyond float16's 65504.
                with _without_autocast(x.device.type):
                    return self.proj(x)
        return self.proj(x.to(self.proj.weight.dtype))

    @torch.no_grad()
    def newton_residual(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """‖I − A·A⁺‖_F / √m for each image and head, (B, h), of the input that `forward` takes."""
        b, n, _ = x.shape
        with _without_autocast(x.device.type):
            q = F.linear(x.float(), self.q.weight.float(), self.q.bias.float())
            q = q.view(b, n, self.num_heads, -1).transpose(1, 2)
            landmarks = self.landmarks(q, grid, self.scale)
            a = gaussian_kernel(landmarks, landmarks)
            return inverse_residual(a, self.inverse, self.newton_iters, self.normalised)

    @torch.no_grad()
    def attention_map(self, x: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        """Rows of P·A⁺·Pᵀ, what the tokens at `queries` take from each token: (B, h, len(queries), N).

        Row times V is the attention's output there, before the output map and without the convolution of V.
        """
        b, n, _ = x.shape
        with _without_autocast(x.device.type):
            q = self.q(x.to(self.q.weight.dtype)).view(b, n, self.num_heads, -1).transpose(1, 2)
            q = at_least_float32(q)
            landmarks = self.landmarks(q, grid, self.scale)
            p, a = gaussian_kernel(q * self.scale, landmarks), gaussian_kernel(landmarks, landmarks)
            return p[:, :, queries] @ self._invert(a) @ p.transpose(-2, -1)


def _without_autocast(device_type: str) -> AbstractContextManager:
    # Devices that know no autocast, such as meta, refuse even to switch it off.
    return torch.autocast(device_type, enabled=False) if torch.amp.is_autocast_available(device_type) else nullcontext()


def _autocasts_to_float16(device_type: str) -> bool:
    return (
        torch.amp.is_autocast_available(device_type)
        and torch.is_autocast_enabled(device_type)
        and torch.get_autocast_dtype(device_type) == torch.float16
    )


class NormalisedSoftAttention(SoftAttention):
    """SOFT attention with D^(−½)·A⁺·D^(−½) in place of A⁺, D the row sums of A (IJCV, "soft_norm")."""

    normalised = True
