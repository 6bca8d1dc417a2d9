"""Train Mask R-CNN with a SOFT backbone on generated masks: `python examples/mask_rcnn.py`, half a minute on a CPU."""

import timm
import torch
from generated import CLASSES
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from training import Recipe, parse, train

import soft  # noqa: F401 - registers the models with timm

# COCO 1x
RECIPE = Recipe(
    size=(800, 1333),
    batch=16,
    steps=90_000,
    lr=2e-4,
    weight_decay=1e-4,
    warmup=500,
    drops=(60_000, 80_000),
)


class Backbone(nn.Module):
    """All stages under a feature pyramid network: images (B, 3, H, W) -> maps of strides 4, 8, 16, 32 and 64."""

    out_channels = 256

    def __init__(self, name: str, checkpoint: str = ""):
        super().__init__()
        weights = {"pretrained": bool(checkpoint), "pretrained_cfg_overlay": {"file": checkpoint}}
        self.body = timm.create_model(name, features_only=True, dynamic_img_size=True, **weights)
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), self.out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn({str(level): features for level, features in enumerate(self.body(images))})


def main(words: list[str] | None = None) -> tuple[MaskRCNN, list[float]]:
    """Train, and return the model and the losses."""
    args = parse(words, RECIPE, size=(128, 192), batch=1, steps=8)
    torch.manual_seed(0)
    model = MaskRCNN(Backbone(args.model, args.checkpoint), CLASSES, *args.size)
    return model, train(model, lambda images, targets: sum(model(images, targets).values()), RECIPE, args)


if __name__ == "__main__":
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    main()
