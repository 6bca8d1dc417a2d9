"""Parts of the SOFT pyramid: post-norm blocks around any attention of `soft.attention`, the stages, the classifier.

Tokens are (B, N, C) with N = H·W tokens on a stage's grid. Stages take feature maps (B, C, H, W).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import Mlp, trunc_normal_
from timm.models import checkpoint, register_notrace_function, register_notrace_module
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from soft.attention import ATTENTIONS, create_attention
from soft.models.mlp import LeanMlp
from soft.models.residual import add_and_normalise

# FX traces each of these as one node: what an attention computes depends on the grid, and LeanMlp has its own gradient.
for _module in (*ATTENTIONS.values(), LeanMlp):
    register_notrace_module(_module)


@register_notrace_function
def resize_position_embedding(embedding: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return the position embedding (1, prefix + H·W, C) of grid `old` for grid `new`.

    Tokens on the grid are resized bilinearly; prefix tokens, such as the class token, stay.
    """
    if old[0] == new[0] and old[1] == new[1]:
        return embedding
    prefix = embedding.shape[1] - old[0] * old[1]
    grid = embedding[:, prefix:].transpose(1, 2).reshape(1, -1, old[0], old[1])
    grid = F.interpolate(grid, size=[new[0], new[1]], mode="bilinear", align_corners=False)
    grid = grid.flatten(2).transpose(1, 2)
    return torch.cat([embedding[:, :prefix], grid], dim=1)


def _exact_mlp(in_features: int, hidden_features: int, **_: object) -> LeanMlp:
    """Return the MLP of a Block of timm's; the Block's further arguments ask for what this MLP does anyway."""
    return LeanMlp(in_features, hidden_features, "none")


class SoftBlock(nn.Module):
    """Post-norm block: Y = LN(X + drop(attn(X))), Z = LN(Y + drop(MLP(Y))).

    `drop` is element-wise dropout at the block's stochastic-depth rate. The released code has it in place of drop path
    in these stages, and the published numbers were trained with it.
    """

    def __init__(self, dim: int, attn: nn.Module, mlp: nn.Module, drop: float):
        super().__init__()
        self.attn = attn
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.norm2 = nn.LayerNorm(dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return tokens (B, N, C), given tokens (B, N, C) on their grid."""
        if not torch.jit.is_scripting():
            x = add_and_normalise(self.norm1, self.drop, x, self.attn(x, grid))
            return add_and_normalise(self.norm2, self.drop, x, self.mlp(x))
        x = self.norm1(x + self.drop(self.attn(x, grid)))
        return self.norm2(x + self.drop(self.mlp(x)))


def create_blocks(
    dim: int,
    num_heads: int,
    grid: tuple[int, int],
    drops: Sequence[float],
    mlp_ratio: float,
    conv_size: int,
    attention: str,
    options: Mapping[str, object],
    lean: bool = True,
) -> nn.ModuleList:
    """Return a block for each rate in `drops`, around attentions of the same kind.

    Args:
        conv_size: width of the attention's convolution of V in tokens, odd; 0 for none.
        options: the attention's own arguments.
        lean: whether the MLPs keep no hidden activations (`LeanMlp`), or are timm's.
    """
    hidden, gelu = int(dim * mlp_ratio), partial(nn.GELU, "tanh")
    blocks = []
    for drop in drops:
        attn = create_attention(attention, dim, num_heads, grid, conv_size, **options)
        mlp = LeanMlp(dim, hidden, "tanh") if lean else Mlp(dim, hidden, act_layer=gelu)
        blocks.append(SoftBlock(dim, attn, mlp, drop))
    return nn.ModuleList(blocks)


class SoftStage(nn.Module):
    """Position embedding and SOFT blocks: feature map (B, C, H, W) -> (B, C, H, W)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: tuple[int, int],
        drops: list[float],
        mlp_ratio: float,
        conv_size: int,
        attention: str,
        options: dict[str, object],
    ):
        super().__init__()
        self.grid = grid
        self.grad_checkpointing = False
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1], dim))
        self.blocks = create_blocks(dim, num_heads, grid, drops, mlp_ratio, conv_size, attention, options)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2) + resize_position_embedding(self.pos_embed, self.grid, (h, w))
        for block in self.blocks:
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x = checkpoint(block, x, (h, w))
            else:
                x = block(x, (h, w))
        return x.transpose(1, 2).reshape(b, c, h, w)


class ClassTokenStage(nn.Module):
    """Class token, position embedding and pre-norm softmax blocks: (B, C, H, W) -> tokens (B, 1 + H·W, C)."""

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], drops: list[float], mlp_ratio: float):
        super().__init__()
        self.grid = grid
        self.grad_checkpointing = False
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1], dim))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, qkv_bias=True, drop_path=drop, norm_layer=norm, mlp_layer=_exact_mlp)
            for drop in drops
        )

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        x = torch.cat([self.cls_token.expand(b, -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = x + resize_position_embedding(self.pos_embed, self.grid, (h, w))
        for block in self.blocks:
            if self.grad_checkpointing and not torch.jit.is_scripting():  # noqa: SIM108 - scripting skips the branch
                x = checkpoint(block, x)
            else:
                x = block(x)
        return x


def init_maps(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Draw the weights of these kinds of map from a truncated normal (std 0.02) and set the biases of Linears to 0.

    An attention with a method `init_weights()` then has the last word on its own.
    """
    for module in model.modules():
        if isinstance(module, kinds):
            trunc_normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, SoftBlock) and hasattr(module.attn, "init_weights"):
            module.attn.init_weights()


def create_classifier(width: int, num_classes: int) -> nn.Module:
    """Return a new classifier of pooled features (B, width): a Linear, or an Identity if there are no classes."""
    if num_classes <= 0:
        return nn.Identity()
    head = nn.Linear(width, num_classes)
    trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head
