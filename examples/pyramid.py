"""SOFT under a feature pyramid network, and the training on COCO, which both detectors share."""

import timm
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork
from training import Recipe

import soft  # noqa: F401 - registers the models with timm

# COCO 1x; Mask R-CNN's rate is twice this
RECIPE = Recipe(
    size=(800, 1333),
    batch=16,
    steps=90_000,
    lr=1e-4,
    weight_decay=1e-4,
    warmup=500,
    drops=(60_000, 80_000),
)


def create_pyramid(name: str, checkpoint: str = "", **options: object) -> nn.Module:
    """Build a SOFT model for images of any size that returns the maps of its stages, with the weights of a file."""
    weights = {"pretrained": bool(checkpoint), "pretrained_cfg_overlay": {"file": checkpoint}}
    return timm.create_model(name, features_only=True, dynamic_img_size=True, **weights, **options)


class Backbone(nn.Module):
    """Stages under a feature pyramid network: images (B, 3, H, W) -> a map (B, 256, h, w) by level.

    Args:
        body: the model that returns the stages' maps.
        extra: makes further, smaller levels of the last map.
    """

    out_channels = 256

    def __init__(self, body: nn.Module, extra: ExtraFPNBlock):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), self.out_channels, extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn({str(level): features for level, features in enumerate(self.body(images))})
