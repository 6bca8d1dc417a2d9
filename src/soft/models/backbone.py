"""The pyramid of four stages (paper, section 3.3 and Table 2), with timm's model interface.

Stages 1 to 3 hold post-norm blocks around any attention of `soft.attention`. Stage 4 holds ordinary pre-norm softmax
blocks and the class token.
"""

import math

import torch
from timm.layers import ConvNormAct, calculate_drop_path_rates, to_2tuple, trunc_normal_
from torch import Tensor, nn

from soft.attention import create_attention
from soft.attention.landmarks import LandmarkSampler
from soft.errors import SettingError
from soft.models.blocks import ClassTokenStage, SoftStage, create_classifier, init_maps
from soft.models.features import FeatureMaps
from soft.models.interface import TimmInterface
from soft.settings import check_rate

POOLS = ("token", "avg", "")


class SoftTransformer(FeatureMaps, TimmInterface, nn.Module):
    """SOFT image classifier and feature pyramid.

    Args:
        img_size: pixels, or (height, width), that position embeddings and landmark samplers are sized for. Inputs of
            other sizes run too, with resized embeddings.
        in_chans: channels of the images.
        num_classes: width of the classifier; 0 for none.
        global_pool: `token` (the class token, as published), `avg` (the mean of the other tokens) or "" (all tokens).
        depths, embed_dims, num_heads: one entry per stage.
        conv_sizes: k of the attention's depthwise k×k convolution in stages 1 to 3.
        stem_width, stem_strides: channels of the first two stem convolutions, and strides of all three.
        mlp_ratio: hidden width of a block's MLP over its token width.
        drop_rate: dropout before the classifier.
        drop_path_rate: rate of the last block, to which the rates rise linearly from 0; `SoftBlock` says what it does.
        dynamic_img_size: let SOFT attention see inputs of other sizes as those of `img_size`: queries are averaged onto
            its grid, where the same number of landmarks is sampled, and the sum over all tokens keeps its size. The
            cost then grows with the pixels. Without it the windows of `conv` and `avgpool` sampling keep their size,
            as in the released code: the number of landmarks grows with the pixels, the cost of their inverse with its
            cube, and an input that is smaller than a window is an error.
        attention: the attention of stages 1 to 3, a name of `soft.attention.ATTENTIONS`.
        device, dtype: where the parameters lie, and their type.
        attention_options: that attention's own arguments, such as `num_landmarks`, `newton_iters`, `sampling`.

    Raises:
        SettingError: a value is not known or does not fit the grid.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        depths: tuple[int, ...] = (1, 2, 3, 2),
        embed_dims: tuple[int, ...] = (64, 128, 320, 512),
        num_heads: tuple[int, ...] = (2, 4, 10, 16),
        conv_sizes: tuple[int, ...] = (9, 5, 3),
        stem_width: int = 32,
        stem_strides: tuple[int, int, int] = (2, 1, 2),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        dynamic_img_size: bool = False,
        attention: str = "soft",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **attention_options: object,
    ):
        super().__init__()
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            check_rate(name, rate)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.num_prefix_tokens = 1
        self.check_new_pool(global_pool)
        self.global_pool = global_pool
        self.feature_info = []

        widths = (stem_width, stem_width, embed_dims[0])
        self.stem = nn.Sequential(
            *(
                ConvNormAct(before, width, 3, stride=stride, bias=True)
                for before, width, stride in zip((in_chans, *widths), widths, stem_strides, strict=False)
            )
        )
        reductions = [math.prod(stem_strides) * 2**i for i in range(len(embed_dims))]
        grids = [tuple(-(-side // reduction) for side in to_2tuple(img_size)) for reduction in reductions]
        # An option that fits the smallest grid fits them all, and an error about this grid names a value that does.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            create_attention(attention, embed_dims[-2], num_heads[-2], grids[-2], conv_sizes[-1], **attention_options)

        drops = calculate_drop_path_rates(drop_path_rate, depths, stagewise=True)
        self.downsamples = nn.ModuleList([nn.Identity()])
        self.stages = nn.ModuleList()
        for i, (dim, heads) in enumerate(zip(embed_dims, num_heads, strict=True)):
            if i > 0:
                self.downsamples.append(ConvNormAct(embed_dims[i - 1], dim, 3, stride=2, bias=True))
            if i < len(embed_dims) - 1:
                stage = SoftStage(
                    dim, heads, grids[i], drops[i], mlp_ratio, conv_sizes[i], attention, attention_options
                )
            else:
                stage = ClassTokenStage(dim, heads, grids[i], drops[i], mlp_ratio)
            self.stages.append(stage)
            self.feature_info.append({"num_chs": dim, "reduction": reductions[i], "module": f"stages.{i}"})
        for sampler in self.modules():
            if isinstance(sampler, LandmarkSampler):
                sampler.dynamic = dynamic_img_size

        self.norm = nn.LayerNorm(embed_dims[-1], eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = create_classifier(embed_dims[-1], num_classes)
        self.init_weights()
        if device is not None or dtype is not None:
            self.to(device=device, dtype=dtype)

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Draw linear maps and embeddings from a truncated normal (std 0.02) and set biases to 0.

        Convolutions keep PyTorch's default, and `init_maps` lets an attention have a start of its own.
        """
        if self.norm.weight.is_meta:
            return  # tensors on meta have no values to draw, and each operation on them takes a while
        init_maps(self, (nn.Linear,))
        for stage in self.stages:
            trunc_normal_(stage.pos_embed, std=0.02)
        trunc_normal_(self.stages[-1].cls_token, std=0.02)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay besides biases and 1-D ones.

        That is the class token alone: position embeddings decay, as in the released recipe.
        """
        return {f"stages.{len(self.stages) - 1}.cls_token"} if self.num_prefix_tokens else set()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Return the layer groups of layer-wise learning rates: the stem, then stages (coarse) or blocks."""
        if coarse:
            blocks = r"^(?:stages|downsamples)\.(\d+)"
        else:
            blocks = [
                (r"^downsamples\.(\d+)", (-1,)),
                (r"^stages\.(\d+)\.(?:pos_embed|cls_token)", (-1,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^norm", (99999,)),
            ]
        return {"stem": r"^stem", "blocks": blocks}

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's tokens (B, 1 + N, C) after the final LayerNorm, the class token first.

        A model that was pruned before the last stage returns its last feature map (B, C, H, W).

        Args:
            x: images (B, in_chans, H, W).
        """
        x = self.stem(x)
        for downsample, stage in zip(self.downsamples, self.stages):  # noqa: B905 - no strict= in TorchScript
            x = stage(downsample(x))
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, num_classes), or with `pre_logits` the pooled features (B, C).

        Args:
            x: what `forward_features` returns.
        """
        if self.global_pool == "token":
            x = x[:, 0]
        elif self.global_pool == "avg":
            x = x[:, 1:].mean(dim=1) if x.ndim == 3 else x.mean(dim=(2, 3))
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, in_chans, H, W)."""
        return self.forward_head(self.forward_features(x))

    @torch.jit.ignore
    def check_new_pool(self, global_pool: str) -> None:
        """Refuse a pooling that is not known, or that needs the class token where it was pruned."""
        if global_pool not in POOLS:
            raise SettingError(f"global_pool={global_pool!r} is not known; it is one of 'token', 'avg' or '' (none).")
        if global_pool == "token" and self.num_prefix_tokens == 0:
            raise SettingError("global_pool='token' needs the last stage's class token, which was pruned; use 'avg'.")
