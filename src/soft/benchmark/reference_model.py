"""The SOFT pyramid as its released code computes it: the baseline of speed and memory measurements.

The attention is that of `soft.attention.reference` with the released code's way of computing the kernel, because the
definition's explicit difference would take N·m·d numbers. Around it, tokens and images are copied into each other's
layout, the tanh GELU is spelt out, and softmax attention is three operations. Parameters have the released names, so
that released weights load as they are.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soft.attention import reference


def released_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return exp(−½‖x_i − y_j‖²), with ‖x‖² + ‖y‖² − 2·x·y as three full products.

    x (..., n, d), y (..., m, d) -> (..., n, m).
    """
    n, d = x.shape[-2:]
    m = y.shape[-2]
    x_norms = (x**2) @ x.new_ones(d, m)
    y_norms = y.new_ones(n, d) @ (y**2).transpose(-2, -1)
    return torch.exp(-(x_norms + y_norms - 2 * (x @ y.transpose(-2, -1))) / 2)


class ReferenceCore(nn.Module):
    """Algorithm 1 without its linear maps: Q, V (B, h, N, d) and their grid -> X (B, h, N, d).

    Args:
        num_heads, head_dim: h and d.
        kernel, stride: of the landmark convolution, (height, width).
        conv_size: k of the k×k depthwise convolution of V.
        newton_iters: T.
        normalised: the IJCV variant of the inverse.
        gaussian: computes the Gaussian kernel, see `reference.attend`.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int],
        conv_size: int,
        newton_iters: int = 20,
        normalised: bool = False,
        gaussian: reference.Kernel = released_kernel,
    ):
        super().__init__()
        self.stride = stride
        self.options = {"iters": newton_iters, "normalised": normalised, "kernel": gaussian}
        self.Qlandmark_op = nn.Conv2d(head_dim, head_dim, kernel, stride, bias=False)
        self.Qnorm_act = nn.Sequential(nn.LayerNorm(head_dim), nn.GELU())
        self.conv = nn.Conv2d(num_heads, num_heads, conv_size, padding=conv_size // 2, groups=num_heads, bias=False)

    def forward(self, q: Tensor, v: Tensor, grid: tuple[int, int]) -> Tensor:
        norm = self.Qnorm_act[0]
        weights = reference.Weights(self.Qlandmark_op.weight, norm.weight, norm.bias, self.conv.weight)
        return reference.attend(q, v, grid, weights, self.stride, **self.options)


class ReferenceAttention(nn.Module):
    """The whole attention, (B, N, C) -> (B, N, C); arguments are those of `ReferenceCore`."""

    def __init__(self, num_heads: int, head_dim: int, *core: object, **options: object):
        super().__init__()
        dim = num_heads * head_dim
        self.num_heads = num_heads
        self.W_q = nn.Linear(dim, dim)
        self.W_v = nn.Linear(dim, dim)
        self.attn = ReferenceCore(num_heads, head_dim, *core, **options)
        self.ff = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        q, v = (linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for linear in (self.W_q, self.W_v))
        return self.ff(self.attn(q, v, grid).transpose(1, 2).flatten(2))


class ReferenceSoftLayer(nn.Module):
    """Post-norm layer: Y = LN(X + drop(attn(X))); LN(Y + drop(MLP(Y)))."""

    def __init__(self, attention: ReferenceAttention, dim: int, drop: float):
        super().__init__()
        self.mha = attention
        self.norm1 = nn.LayerNorm(dim)
        self.ff1 = nn.Linear(dim, 4 * dim)
        self.ff2 = nn.Linear(4 * dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.drop1 = nn.Dropout(drop)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        y = self.norm1(x + self.drop1(self.mha(x, grid)))
        return self.norm2(y + self.drop2(self.ff2(tanh_gelu(self.ff1(y)))))


def tanh_gelu(x: Tensor) -> Tensor:
    """Return the tanh approximation of GELU, term by term."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))))


class ReferenceSoftBlock(nn.Module):
    """A layer, one name deeper, as in the released files."""

    def __init__(self, *layer: object):
        super().__init__()
        self.att = ReferenceSoftLayer(*layer)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.att(x, grid)


class ReferenceSoftmax(nn.Module):
    """softmax(Q·Kᵀ/√d)·V with the N×N matrix in memory."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q = self.q(x).reshape(b, n, self.num_heads, -1).permute(0, 2, 1, 3)
        k, v = self.kv(x).reshape(b, n, 2, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, c))


class ReferenceSoftmaxBlock(nn.Module):
    """Pre-norm block of stage 4; `drop_path` is stochastic depth by image."""

    def __init__(self, dim: int, num_heads: int, drop_path: float):
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = ReferenceSoftmax(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(dim, 4 * dim))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop(self.attn(self.norm1(x)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return x
        keep = 1 - self.drop_path
        return x * x.new_empty(len(x), 1, 1).bernoulli_(keep).div_(keep)


class ReferenceTransformer(nn.Module):
    """The pyramid around the reference attention, with the shapes, the type and the values of given weights.

    Args:
        weights: state dict in the released names, see `soft.models.key_names.to_official_keys`.
        stem_strides: of the three stem convolutions.
        num_landmarks: m on the grids that the position embeddings are for.
        newton_iters: T.
        normalised: the IJCV variant of the inverse.
        drop_path_rate: of the last block; earlier ones rise to it linearly.
        gaussian: computes the Gaussian kernel, see `reference.attend`.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        stem_strides: tuple[int, int, int] = (2, 1, 2),
        num_landmarks: int = 49,
        newton_iters: int = 20,
        normalised: bool = False,
        drop_path_rate: float = 0.0,
        gaussian: reference.Kernel = released_kernel,
    ):
        super().__init__()
        depths = [len({key.split(".")[1] for key in weights if key.startswith(f"block{i}.")}) for i in (1, 2, 3, 4)]
        rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        core = (newton_iters, normalised, gaussian)
        for i in (1, 2, 3, 4):
            strides, places = ((2,), (0,)) if i > 1 else (stem_strides, (0, 3, 6))
            layers: list[nn.Module] = []
            for stride, place in zip(strides, places, strict=True):
                width, channels, *_ = weights[f"patch_embed{i}.proj.{place}.weight"].shape
                layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            embed = nn.Module()
            embed.proj = nn.Sequential(*layers)
            self.add_module(f"patch_embed{i}", embed)
            tokens, dim = weights[f"pos_embed{i}"].shape[1:]
            self.register_parameter(f"pos_embed{i}", nn.Parameter(torch.empty(1, tokens, dim)))
            blocks = nn.ModuleList()
            for j in range(depths[i - 1]):
                rate = rates[sum(depths[: i - 1]) + j]
                if i == 4:
                    blocks.append(ReferenceSoftmaxBlock(dim, dim // 32, rate))
                    continue
                name = f"block{i}.{j}.att.mha.attn"
                heads, _, conv_size, _ = weights[f"{name}.conv.weight"].shape
                kernel = weights[f"{name}.Qlandmark_op.weight"].shape[-1]
                stride = math.isqrt(tokens) // math.isqrt(num_landmarks)
                attention = ReferenceAttention(heads, dim // heads, kernel, stride, conv_size, *core)
                blocks.append(ReferenceSoftBlock(attention, dim, rate))
            self.add_module(f"block{i}", blocks)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, len(weights["head.weight"]))
        self.to(weights["head.weight"].dtype).load_state_dict(weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, 3, H, W)."""
        for i in (1, 2, 3, 4):
            x = getattr(self, f"patch_embed{i}").proj(x)
            b, c, *grid = x.shape
            x = x.flatten(2).transpose(1, 2)
            if i == 4:
                x = torch.cat([self.cls_token.expand(b, -1, -1), x], dim=1)
            x = x + _resized(getattr(self, f"pos_embed{i}"), grid, prefix=int(i == 4))
            for block in getattr(self, f"block{i}"):
                x = block(x) if i == 4 else block(x, tuple(grid))
            if i < 4:
                x = x.reshape(b, *grid, c).permute(0, 3, 1, 2).contiguous()
        return self.head(self.norm(x)[:, 0])


def _resized(embedding: Tensor, grid: list[int], prefix: int) -> Tensor:
    side = math.isqrt(embedding.shape[1] - prefix)
    if grid == [side, side]:
        return embedding
    image = embedding[:, prefix:].transpose(1, 2).reshape(1, -1, side, side)
    image = F.interpolate(image, size=grid, mode="bilinear", align_corners=False)
    return torch.cat([embedding[:, :prefix], image.flatten(2).transpose(1, 2)], dim=1)
