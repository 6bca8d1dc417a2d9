"""The named SOFT models, registered with timm (paper, Table 2; the journal version for the normalised ones)."""

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from soft.attention import attention_options
from soft.attention.landmarks import AUTO
from soft.models.backbone import SoftTransformer
from soft.models.checkpoints import check_pretrained

# Depths and widths of the stages. All heads are 32 channels wide.
_SIZES = {
    "tiny": ((1, 2, 3, 2), (64, 128, 320, 512)),
    "small": ((1, 3, 7, 4), (64, 128, 320, 512)),
    "medium": ((1, 3, 29, 5), (64, 128, 288, 512)),
    "large": ((1, 3, 40, 5), (64, 128, 320, 512)),
    "huge": ((1, 5, 49, 5), (64, 128, 352, 512)),
    # The configuration that was released as "small". It has 39M parameters, where its own table says 24M.
    "small_39m": ((1, 3, 20, 4), (64, 128, 320, 512)),
}

# A model of ours for images of 28 to 64 px: at 32 px, the finer stem leaves 16x16 tokens in stage 1.
_PICO = {
    "img_size": 32,
    "depths": (1, 1, 2, 1),
    "embed_dims": (32, 64, 128, 192),
    "num_heads": (1, 2, 4, 6),
    "conv_sizes": (5, 3, 3),
    "stem_width": 16,
    "stem_strides": (2, 1, 1),
}
# 3x3 landmarks, since stage 3 has 4x4 tokens; docs/attention.md derives the start.
_PICO_ATTENTION = {"num_landmarks": 9, "landmark_gain": AUTO, "global_scale": AUTO}

# Depths and widths of each stage, by the model's name.
LAYOUTS = {
    "soft_pico": (_PICO["depths"], _PICO["embed_dims"]),
    **{f"soft_{size}": layout for size, layout in _SIZES.items()},
    **{f"soft_norm_{size}": layout for size, layout in _SIZES.items() if size != "small_39m"},
}


def _cfg(**kwargs: object) -> dict[str, object]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "fixed_input_size": False,
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.0.conv",
        "classifier": "head",
        "license": "mit",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "soft_pico": _cfg(input_size=(3, 32, 32), pool_size=(2, 2), crop_pct=1.0),
        **{name: _cfg() for name in LAYOUTS if name != "soft_pico"},
    }
)


def _create(variant: str, pretrained: bool, **kwargs: object) -> SoftTransformer:
    return build_model_with_cfg(
        SoftTransformer,
        variant,
        pretrained,
        pretrained_filter_fn=check_pretrained,
        feature_cfg={"out_indices": kwargs.pop("out_indices", (0, 1, 2, 3)), "feature_cls": "getter"},
        **kwargs,
    )


def _soft(variant: str, pretrained: bool, **kwargs: object) -> SoftTransformer:
    depths, widths = LAYOUTS[variant]
    widths = kwargs.get("embed_dims", widths)
    own = {
        "depths": depths,
        "embed_dims": widths,
        "num_heads": tuple(width // 32 for width in widths),
        "attention": "soft_norm" if variant.startswith("soft_norm_") else "soft",
    }
    return _create(variant, pretrained, **{**own, **kwargs})


@register_model
def soft_pico(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build SOFT-Pico: 1.5M parameters, for images of 28 to 64 px; not in the paper.

    Its attention is at work from the start, with a landmark gain of 2/√d and a global term of 16/N times the sum;
    `landmark_gain=1.0` gives it the published start.
    """
    taken = attention_options(kwargs.get("attention", "soft"))
    options = {name: value for name, value in _PICO_ATTENTION.items() if name in taken}
    options |= kwargs
    model = _create("soft_pico", pretrained, **{**_PICO, **options})
    if "global_scale" in taken:
        # timm records only what was asked for, so the default is added. Files without it are older than the default.
        model._model_args = {"global_scale": options["global_scale"]}
    return model


@register_model
def soft_tiny(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build SOFT-Tiny: 13M parameters, 1.9 GMACs, 79.3 % top-1 published."""
    return _soft("soft_tiny", pretrained, **kwargs)


@register_model
def soft_small(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build SOFT-Small: 24M parameters, 3.3 GMACs, 82.2 % top-1 published."""
    return _soft("soft_small", pretrained, **kwargs)


@register_model
def soft_small_39m(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build the released layout of soft_small, for the authors' file: 39M parameters, depth 20 in stage 3."""
    return _soft("soft_small_39m", pretrained, **kwargs)


@register_model
def soft_medium(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build SOFT-Medium: 45M parameters, 7.2 GMACs, 82.9 % top-1 published."""
    return _soft("soft_medium", pretrained, **kwargs)


@register_model
def soft_large(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build SOFT-Large: 64M parameters, 11.0 GMACs, 83.1 % top-1 published."""
    return _soft("soft_large", pretrained, **kwargs)


@register_model
def soft_huge(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build SOFT-Huge: 87M parameters, 16.3 GMACs, 83.3 % top-1 published."""
    return _soft("soft_huge", pretrained, **kwargs)


@register_model
def soft_norm_tiny(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build soft_tiny with normalised attention: 79.4 % top-1 published."""
    return _soft("soft_norm_tiny", pretrained, **kwargs)


@register_model
def soft_norm_small(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build soft_small with normalised attention: 82.4 % top-1 published."""
    return _soft("soft_norm_small", pretrained, **kwargs)


@register_model
def soft_norm_medium(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build soft_medium with normalised attention: 83.1 % top-1 published."""
    return _soft("soft_norm_medium", pretrained, **kwargs)


@register_model
def soft_norm_large(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build soft_large with normalised attention: 83.3 % top-1 published."""
    return _soft("soft_norm_large", pretrained, **kwargs)


@register_model
def soft_norm_huge(pretrained: bool = False, **kwargs: object) -> SoftTransformer:
    """Build soft_huge with normalised attention: 83.4 % top-1 published."""
    return _soft("soft_norm_huge", pretrained, **kwargs)
