"""Attention cores to be timed: the part between the linear maps, from Q, K = Q and V to X."""

import inspect
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.attention.soft import SoftAttention
from soft.benchmark.reference_model import ReferenceAttention, ReferenceCore
from soft.errors import SettingError
from soft.models.key_names import to_official_keys

HEAD_WIDTH = 32
LAYOUTS = ("tokens", "heads")


class Core:
    """An attention core on random input of one size.

    Args:
        attend: function of arguments among `q`, `k`, `v` and `grid`, all but the grid (B, h, N, d); K is Q.
        parameters: parameters of the core; unused ones get no gradient.
        batch_size, num_heads: B and h; d is 32 as in every model.
        grid: height and width in tokens.
        layout: order in memory, `tokens` for (B, N, h, d), as the linear maps of a model leave it, or `heads` for
            (B, h, N, d).
    """

    def __init__(
        self,
        attend: Callable[..., Tensor],
        parameters: list[nn.Parameter],
        batch_size: int,
        num_heads: int,
        grid: tuple[int, int],
        device: torch.device,
        layout: str = "tokens",
    ):
        generator = torch.Generator(device).manual_seed(0)
        first, second = (1, 2) if layout == "tokens" else (2, 1)
        shape = [batch_size, grid[0] * grid[1], num_heads, HEAD_WIDTH]
        shape[1], shape[2] = shape[first], shape[second]
        q, v = (torch.randn(shape, device=device, generator=generator).requires_grad_() for _ in range(2))
        self.leaves = [q, v, *parameters]
        self.attend = attend
        if layout == "tokens":
            q, v = q.transpose(1, 2), v.transpose(1, 2)
        given = {"q": q, "k": q, "v": v, "grid": grid}
        self.inputs = [given[name] for name in inspect.signature(attend).parameters]
        # In the layout of V: a model's output map reads all heads of a token together, and so does its gradient.
        self.cotangent = torch.empty_like(v).normal_(generator=generator)

    def forward(self) -> None:
        """Run one forward pass, as in inference."""
        with torch.no_grad():
            self.attend(*self.inputs)

    def train(self) -> None:
        """Run one forward and backward pass, with gradients of the input and the parameters."""
        torch.autograd.grad(self.attend(*self.inputs), self.leaves, self.cotangent, allow_unused=True)


def scaled_dot_product(q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
    """Compute PyTorch's softmax attention of the same Q, K = Q and V."""
    return F.scaled_dot_product_attention(q, q, v)


def reference_core(attention: nn.Module, grid: tuple[int, int]) -> ReferenceCore | None:
    """Return the reference formulation with the weights of `attention`; None unless it is SOFT as published.

    Tables and figures call it plain.
    """
    if not isinstance(attention, SoftAttention) or attention.inverse != "newton" or attention.global_scale is not None:
        return None
    prefix = "stages.0.blocks.0.attn."
    weights = {f"{prefix}{key}": value for key, value in attention.state_dict().items()}
    weights = {key.split(".att.mha.")[1]: value for key, value in to_official_keys(weights).items()}
    if "attn.Qlandmark_op.weight" not in weights:
        return None
    heads, _, conv_size, _ = weights["attn.conv.weight"].shape
    kernel = tuple(weights["attn.Qlandmark_op.weight"].shape[2:])
    side = math.isqrt(attention.landmarks.num_landmarks)
    stride = (grid[0] // side, grid[1] // side)
    reference = ReferenceAttention(
        heads, HEAD_WIDTH, kernel, stride, conv_size, attention.newton_iters, attention.normalised
    )
    reference.load_state_dict(weights)
    return reference.attn.to(attention.proj.weight.device)


def grid_of(tokens: int, min_side: int) -> tuple[int, int]:
    """Return the (height, width) of so many tokens that is nearest to a square.

    Raises:
        SettingError: no such grid has sides of at least `min_side`.
    """
    height = next((side for side in range(math.isqrt(tokens), 0, -1) if tokens % side == 0), 0)
    if height < min_side:
        raise SettingError(
            f"attention.tokens={tokens} is not height times width with both at least {min_side}, the landmarks of a "
            "side; choose a square or a power of two from 64 on, for example."
        )
    return height, tokens // height
