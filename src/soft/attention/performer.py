"""Performer attention (FAVOR+): the softmax kernel as a product of positive random features."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from soft.attention.multihead import MultiHeadAttention
from soft.settings import check_whole


class PerformerAttention(MultiHeadAttention):
    """D⁻¹·φ(Q)·(φ(K)ᵀ·V) with D = diag(φ(Q)·φ(K)ᵀ·1) and r random features φ.

    Source: Choromanski et al., "Rethinking Attention with Performers", ICLR 2021: positive features (Lemma 1) of
    orthogonal random directions (section 2.4).

    The directions are drawn once and kept in a buffer, which checkpoints hold.

    Args:
        dim, num_heads, grid, conv_size: see `MultiHeadAttention`.
        num_features: r; None for d·ln(d) rounded down, 110 for heads of 32.
    """

    def __init__(
        self, dim: int, num_heads: int, grid: tuple[int, int], conv_size: int, num_features: int | None = None
    ):
        super().__init__(dim, num_heads, grid, conv_size)
        head_dim = dim // num_heads
        if num_features is None:
            num_features = max(1, int(head_dim * math.log(head_dim)))
        check_whole("num_features", num_features, 1)
        self.register_buffer("directions", torch.empty(num_features, head_dim))
        self.redraw()

    @torch.no_grad()
    def redraw(self) -> None:
        """Draw new random directions, in place."""
        # Only a seed comes from the global generator: directions differ between layers and follow the run's seed.
        seed = int(torch.randint(2**31, (), device="cpu"))
        self.directions.copy_(orthogonal_directions(*self.directions.shape, torch.Generator("cpu").manual_seed(seed)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        q, k = self.features(q, [-1]), self.features(k, [-2, -1])
        return q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(-2).unsqueeze(-1))

    def rows(self, q: Tensor, k: Tensor, grid: tuple[int, int], queries: Sequence[int]) -> Tensor:
        kernel = self.features(q[:, :, queries], [-1]) @ self.features(k, [-2, -1]).transpose(-2, -1)
        return kernel / kernel.sum(-1, keepdim=True)

    def features(self, x: Tensor, over: list[int]) -> Tensor:
        """Return φ(x) = exp(W·x/d^¼ − ½‖x‖²/√d) up to a factor that cancels in D⁻¹: (..., N, d) -> (..., N, r).

        The exponent is taken relative to its largest W·x over the dimensions `over`. The resulting factor is one per
        query, or one that all keys of a head share.
        """
        x = x * x.shape[-1] ** -0.25
        exponent = x @ self.directions.to(x.dtype).t()
        largest = exponent.detach().amax(over, keepdim=True)
        # The 1e-4 is that of the authors' code; it keeps every row's sum away from zero.
        return (exponent - 0.5 * x.square().sum(-1, keepdim=True) - largest).exp() + 1e-4


def orthogonal_directions(count: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw random directions (count, width), orthogonal in blocks of `width` and as long as Gaussian vectors."""
    draw = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    blocks = [torch.linalg.qr(torch.randn(width, width, **draw))[0].t() for _ in range(-(-count // width))]
    return torch.cat(blocks)[:count] * torch.randn(count, width, **draw).norm(dim=1, keepdim=True)
