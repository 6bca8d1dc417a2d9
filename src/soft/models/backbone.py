"""The four-stage SOFT pyramid (paper, section 3.3 and Table 2), with timm's model interface.

Stages 1 to 3 hold post-norm blocks around any attention of `soft.attention`; stage 4 holds ordinary pre-norm softmax
blocks and the class token.
"""

from collections.abc import Mapping

import torch
from timm.layers import ConvNormAct, calculate_drop_path_rates, to_2tuple, trunc_normal_
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from soft.errors import SettingError
from soft.models.blocks import ClassTokenStage, SoftStage
from soft.models.checkpoints import fit_to_model

POOLS = ("token", "avg", "")


class SoftTransformer(nn.Module):
    """SOFT image classifier and feature pyramid.

    Args:
        img_size: pixels (or height, width) that position embeddings and landmark samplers are sized for; other sizes
            run too, with resized embeddings and, for `conv` and `avgpool` sampling, another number of landmarks.
        global_pool: `token` (the class token, as published), `avg` (the mean of the other tokens) or "" (all tokens).
        depths, embed_dims, num_heads: one entry per stage.
        conv_sizes: k of the attention's depthwise convolution in stages 1 to 3.
        stem_width, stem_strides: channels and strides of the three stem convolutions.
        drop_rate: dropout before the classifier.
        drop_path_rate: the last block's rate; earlier blocks rise to it linearly from 0. See `SoftBlock`.
        attention: attention of stages 1 to 3, a name of `soft.attention.ATTENTIONS`.
        attention_options: that attention's own arguments, such as `num_landmarks`, `newton_iters`, `sampling`.

    Raises:
        SettingError: a value that is not known or does not fit the grid.
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
        attention: str = "soft",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **attention_options: object,
    ):
        super().__init__()
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
                raise SettingError(f"{name}={rate!r} has to be a number from 0 up to, but not including, 1.")
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.num_prefix_tokens = 1
        self.global_pool = self._known_pool(global_pool)
        self.feature_info = []

        widths = (stem_width, stem_width, embed_dims[0])
        self.stem = nn.Sequential(
            *(
                ConvNormAct(before, width, 3, stride=stride, bias=True)
                for before, width, stride in zip((in_chans, *widths), widths, stem_strides, strict=False)
            )
        )
        height, width = to_2tuple(img_size)
        reduction = 1
        for stride in stem_strides:
            height, width, reduction = -(-height // stride), -(-width // stride), reduction * stride

        drops = calculate_drop_path_rates(drop_path_rate, depths, stagewise=True)
        self.downsamples = nn.ModuleList([nn.Identity()])
        self.stages = nn.ModuleList()
        for i, (dim, heads) in enumerate(zip(embed_dims, num_heads, strict=True)):
            if i > 0:
                self.downsamples.append(ConvNormAct(embed_dims[i - 1], dim, 3, stride=2, bias=True))
                height, width, reduction = -(-height // 2), -(-width // 2), reduction * 2
            if i < len(embed_dims) - 1:
                stage = SoftStage(
                    dim, heads, (height, width), drops[i], mlp_ratio, conv_sizes[i], attention, attention_options
                )
            else:
                stage = ClassTokenStage(dim, heads, (height, width), drops[i], mlp_ratio)
            self.stages.append(stage)
            self.feature_info.append({"num_chs": dim, "reduction": reduction, "module": f"stages.{i}"})

        self.norm = nn.LayerNorm(embed_dims[-1], eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = _classifier(embed_dims[-1], num_classes)
        self.init_weights()
        if device is not None or dtype is not None:
            self.to(device=device, dtype=dtype)

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Linear maps and embeddings truncated normal (std 0.02), biases 0; convolutions keep PyTorch's default."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for stage in self.stages:
            trunc_normal_(stage.pos_embed, std=0.02)
        trunc_normal_(self.stages[-1].cls_token, std=0.02)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay besides biases and 1-D ones: the class token; position embeddings decay."""
        return {f"stages.{len(self.stages) - 1}.cls_token"} if self.num_prefix_tokens else set()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Layer groups for layer-wise learning rates: the stem, then stages (coarse) or blocks."""
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

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The classifier: a Linear, or Identity without classes."""
        return self.head

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """New, freshly initialised classifier for `num_classes` (0: none), and another pooling if given."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = self._known_pool(global_pool)
        like = next(self.parameters())
        self.head = _classifier(self.num_features, num_classes).to(like.device, like.dtype)
        self.head.train(self.training)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Feature maps of chosen stages (B, C, H, W), without the class token, and the final tokens.

        Args:
            x: images (B, in_chans, H, W).
            indices: the last n stages if an int, all if None, else these stages.
            norm: apply the final LayerNorm to the last stage's map.
            stop_early: do not run stages after the last one wanted.
            output_fmt: only `NCHW`.
            intermediates_only: return the maps alone.
        """
        if output_fmt != "NCHW":
            raise SettingError(f"output_fmt='{output_fmt}' is not known; a pyramid's features are NCHW.")
        take, last = feature_take_indices(len(self.stages), indices)
        intermediates = []
        x = self.stem(x)
        for i, (downsample, stage) in enumerate(zip(self.downsamples, self.stages)):  # noqa: B905 - see forward_features
            if i <= last or not stop_early:  # TorchScript knows no break here
                image = downsample(x)
                x = stage(image)
                if i in take:
                    if x.ndim == 3:
                        tokens = self.norm(x) if norm else x
                        intermediates.append(tokens[:, 1:].transpose(1, 2).reshape(image.shape))
                    else:
                        intermediates.append(x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if x.ndim == 3 else x), intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the chosen stages do not need; returns their indices."""
        take, last = feature_take_indices(len(self.stages), indices)
        shortened = last < len(self.stages) - 1
        self.stages = self.stages[: last + 1]
        self.downsamples = self.downsamples[: last + 1]
        if shortened:
            self.num_prefix_tokens = 0
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_norm or shortened:
            self.norm = nn.Identity()
        if prune_head or shortened:
            self.reset_classifier(0, "")
        return take

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> normalised tokens (B, 1 + N, C) of the last stage, the class token first.

        A model pruned before that stage gives its last feature map (B, C, H, W).
        """
        x = self.stem(x)
        for downsample, stage in zip(self.downsamples, self.stages):  # noqa: B905 - TorchScript knows no strict=
            x = stage(downsample(x))
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """`forward_features`' output -> logits (B, num_classes), or the pooled features (B, C) with `pre_logits`."""
        if self.global_pool == "token":
            x = x[:, 0]
        elif self.global_pool == "avg":
            x = x[:, 1:].mean(dim=1) if x.ndim == 3 else x.mean(dim=(2, 3))
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    @torch.jit.ignore
    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """As PyTorch's, for any form and key names that `checkpoints.to_soft_keys` reads.

        Here rather than in a filter because timm's `checkpoint_path` and `load_checkpoint` call this and no filter.

        Raises:
            SettingError: keys or shapes do not fit, see `checkpoints.fit_to_model`.
        """
        return super().load_state_dict(fit_to_model(state_dict, self, strict), strict=strict, assign=assign)

    @torch.jit.ignore
    def _known_pool(self, global_pool: str) -> str:
        if global_pool not in POOLS:
            raise SettingError(f"global_pool={global_pool!r} is not known; it is one of 'token', 'avg' or '' (none).")
        if global_pool == "token" and self.num_prefix_tokens == 0:
            raise SettingError("global_pool='token' needs the last stage's class token, which was pruned; use 'avg'.")
        return global_pool


def _classifier(width: int, num_classes: int) -> nn.Module:
    if num_classes <= 0:
        return nn.Identity()
    head = nn.Linear(width, num_classes)
    trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head
