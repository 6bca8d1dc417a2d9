"""Flat encoder for sequences and grids: post-norm blocks of one width around any attention of `soft.attention`.

The pyramid's fourth stage is softmax attention over all tokens and solves tasks by itself; here every block holds the
attention that is asked for. Inputs are integers (token ids or grey values) or images.
"""

import torch
from timm.layers import calculate_drop_path_rates, to_2tuple, trunc_normal_
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from soft.attention import attention_options
from soft.attention.landmarks import AUTO
from soft.errors import SettingError
from soft.models.blocks import create_classifier, init_maps
from soft.models.checkpoints import check_pretrained
from soft.models.embeddings import EMBEDDINGS, sincos_positions
from soft.models.encoder_stage import EncoderStage
from soft.models.interface import TimmInterface
from soft.models.readout import check_pool, pool_tokens
from soft.settings import check_choice, check_number, check_pixels, check_rate, check_whole

POSITIONS = ("learned", "sincos2d", "none")
LAYOUTS = ("grid", "sequence")


class SoftEncoder(TimmInterface, nn.Module):
    """Classifier of sequences, grids and images: embedding, LayerNorm, blocks, readout.

    Args:
        img_size: height and width in tokens, or one number for both; (1, N) for a sequence. Inputs have this size.
        in_chans: token ids per position, or channels of an image.
        num_classes: width of the classifier; 0 for none.
        global_pool: what the classifier reads: `ask` (the position whose last token id is 1, see `soft.data.tasks`),
            `token` (a class token in front, for layout=sequence) or `avg` (the mean of the positions; those whose token
            ids are all 0 are padding and left out).
        depth, embed_dim, num_heads: number of blocks, their width and their heads.
        mlp_ratio: hidden width of the MLPs over `embed_dim`.
        vocabulary: number of token ids, or of grey values.
        embedding: `table` (a learned vector per token id) or `linear` (a linear map of values, such as pixels).
        pos_embed: `learned` (a vector per position), `sincos2d` (fixed sines and cosines of row and column) or `none`.
        layout: `grid` (landmarks and convolutions lie on the H x W grid) or `sequence` (rows follow each other in a
            sequence, a grid of 1 x H·W).
        local_kernel: width of the attention's convolution of V in tokens, odd; 0 for no convolution of V.
        drop_rate: dropout before the classifier.
        drop_path_rate: the last block's rate, to which the rates rise linearly from 0; `SoftBlock` says what it does.
        attention: a name of `soft.attention.ATTENTIONS`.
        device, dtype: where the parameters lie, and their type.
        attention_options: that attention's own arguments, such as `num_landmarks`, `newton_iters`, `sampling`.

    Raises:
        SettingError: a value is not known or does not fit the others.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 8,
        in_chans: int = 1,
        num_classes: int = 10,
        global_pool: str = "avg",
        depth: int = 2,
        embed_dim: int = 64,
        num_heads: int = 2,
        mlp_ratio: float = 4.0,
        vocabulary: int = 64,
        embedding: str = "table",
        pos_embed: str = "learned",
        layout: str = "grid",
        local_kernel: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        attention: str = "soft",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **attention_options: object,
    ):
        super().__init__()
        check_pixels("`data.img_size`", img_size)
        sizes = {"in_chans": in_chans, "depth": depth, "embed_dim": embed_dim, "num_heads": num_heads}
        for name, value in sizes.items():
            check_whole(f"`model.{name}`", value, low=1)
        check_whole("`model.vocabulary`", vocabulary, low=2)
        check_number("`model.mlp_ratio`", mlp_ratio, low=0.01)
        check_choice("`model.embedding`", embedding, EMBEDDINGS)
        check_choice("`model.pos_embed`", pos_embed, POSITIONS)
        check_choice("`model.layout`", layout, LAYOUTS)
        check_rate("`model.drop_rate`", drop_rate)
        check_rate("`model.drop_path_rate`", drop_path_rate)
        check_whole("`model.local_kernel`", local_kernel, low=0)
        if local_kernel and local_kernel % 2 == 0:
            raise SettingError(f"`model.local_kernel`={local_kernel} has to be odd, or 0 for no convolution.")
        check_pool(global_pool, layout, embedding)
        self.img_size = to_2tuple(img_size)
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = embed_dim
        self.vocabulary = vocabulary
        self.embedding_kind = embedding
        self.layout = layout
        self.global_pool = global_pool
        self.num_prefix_tokens = int(global_pool == "token")

        height, width = self.img_size
        tokens = height * width + self.num_prefix_tokens
        self.embedding = EMBEDDINGS[embedding](vocabulary, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if self.num_prefix_tokens else None
        if pos_embed == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dim))
        else:
            fixed = pos_embed == "sincos2d"
            positions = sincos_positions(self.img_size, embed_dim, self.num_prefix_tokens) if fixed else None
            self.register_buffer("pos_embed", positions, persistent=False)
        # Without this, the first block's tokens would be a sixth as long as those of the others, which are normalised,
        # and its kernel, which depends on their length, would hardly tell them apart.
        self.norm = nn.LayerNorm(embed_dim)
        grid = (height, width) if layout == "grid" else (1, tokens)
        drops = calculate_drop_path_rates(drop_path_rate, depth)
        stage = EncoderStage(embed_dim, num_heads, grid, drops, mlp_ratio, local_kernel, attention, attention_options)
        self.stages = nn.ModuleList([stage])
        self.feature_info = [{"num_chs": embed_dim, "reduction": 1, "module": "stages.0"}]
        self.head_drop = nn.Dropout(drop_rate)
        self.head = create_classifier(embed_dim, num_classes)
        self.init_weights()
        if device is not None or dtype is not None:
            self.to(device=device, dtype=dtype)

    def init_weights(self) -> None:
        """Draw linear maps and embeddings from a truncated normal (std 0.02) and set biases to 0.

        Convolutions keep PyTorch's default, and `init_maps` lets an attention have a start of its own.
        """
        init_maps(self, (nn.Linear, nn.Embedding))
        if isinstance(self.pos_embed, nn.Parameter):
            trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay besides biases and 1-D ones: the class token."""
        return {"cls_token"} if self.num_prefix_tokens else set()

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Return the layer groups of layer-wise learning rates: the embedding, then the blocks."""
        blocks = r"^stages\.(\d+)" if coarse else r"^stages\.\d+\.blocks\.(\d+)"
        return {"stem": r"^embedding|^pos_embed|^cls_token|^norm", "blocks": blocks}

    def check_new_pool(self, global_pool: str) -> None:
        """Refuse a pooling that does not fit the model, or for which the class token would have to come or go."""
        check_pool(global_pool, self.layout, self.embedding_kind)
        if global_pool != self.global_pool and "token" in (global_pool, self.global_pool):
            raise SettingError(
                f"The class token is part of the sequence; build the model with global_pool={global_pool}."
            )

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last block's tokens (B, prefix + H·W, C).

        Args:
            x: an input as for `forward`.
        """
        x = self.embedding(self._as_grid(x))
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        x = self.norm(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, x: Tensor, source: Tensor | None = None, pre_logits: bool = False) -> Tensor:
        """Return logits (B, num_classes), or with `pre_logits` the pooled features (B, C).

        Args:
            x: what `forward_features` returns.
            source: the model's input, which says where `ask` reads and what padding is.
        """
        reads_ids = source is not None and self.embedding_kind == "table"
        x = pool_tokens(x, self.global_pool, self._as_grid(source).flatten(2) if reads_ids else None)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes).

        Args:
            x: token ids or grey values, integers (B, in_chans, H, W), (B, H, W) or (B, N); or images, floats
                (B, in_chans, H, W).
        """
        return self.forward_head(self.forward_features(x), x)

    def _as_grid(self, x: Tensor) -> Tensor:
        height, width = self.img_size
        if x.shape[1:].numel() != self.in_chans * height * width:
            raise SettingError(
                f"An input of shape {tuple(x.shape[1:])} does not fit the model's img_size={list(self.img_size)} with "
                f"in_chans={self.in_chans}; build the model with the input's size."
            )
        return x.reshape(x.shape[0], self.in_chans, height, width)


_CFG = {"url": "", "num_classes": 10, "input_size": (1, 8, 8), "fixed_input_size": True, "license": "mit"}
default_cfgs = generate_default_cfgs({"soft_encoder": {**_CFG, "first_conv": "embedding", "classifier": "head"}})


@register_model
def soft_encoder(pretrained: bool = False, **kwargs: object) -> SoftEncoder:
    """Build two blocks of width 64 for sequences and grids; not in the paper.

    Where the attention has landmarks there are 16, and SOFT's start with a gain of 2/√d, see
    `soft.attention.landmarks.alive_gain`.

    Raises:
        SettingError: `features_only`, because there is one stage, and its tokens are what `forward_features` returns.
    """
    if kwargs.get("features_only"):
        raise SettingError(
            "features_only=True is for the pyramids, such as soft_pico; soft_encoder has no feature maps, and its "
            "forward_features gives the last block's tokens."
        )
    known = attention_options(kwargs.get("attention", "soft"))
    own = {name: value for name, value in (("num_landmarks", 16), ("landmark_gain", AUTO)) if name in known}
    options = {**own, **kwargs}
    return build_model_with_cfg(
        SoftEncoder, "soft_encoder", pretrained, pretrained_filter_fn=check_pretrained, **options
    )
