"""Train RetinaNet with a SOFT backbone on generated boxes: `python examples/retinanet.py`, half a minute on a CPU."""

import timm
import torch
from generated import CLASSES
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7
from training import Recipe, parse, train

import soft  # noqa: F401 - registers the models with timm

# COCO 1x
RECIPE = Recipe(
    size=(800, 1333),
    batch=16,
    steps=90_000,
    lr=1e-4,
    weight_decay=1e-4,
    warmup=500,
    drops=(60_000, 80_000),
)


class Backbone(nn.Module):
    """Stages 2 to 4 under a feature pyramid network: images (B, 3, H, W) -> maps of strides 8, 16, 32, 64 and 128."""

    out_channels = 256

    def __init__(self, name: str, checkpoint: str = ""):
        super().__init__()
        weights = {"pretrained": bool(checkpoint), "pretrained_cfg_overlay": {"file": checkpoint}}
        self.body = timm.create_model(name, features_only=True, out_indices=(1, 2, 3), dynamic_img_size=True, **weights)
        widths = self.body.feature_info.channels()
        self.fpn = FeaturePyramidNetwork(widths, self.out_channels, LastLevelP6P7(widths[-1], self.out_channels))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn({str(level): features for level, features in enumerate(self.body(images))})


def main(words: list[str] | None = None) -> tuple[RetinaNet, list[float]]:
    """Train, and return the model and the losses."""
    args = parse(words, RECIPE, size=(128, 192), batch=2, steps=12)
    torch.manual_seed(0)
    model = RetinaNet(Backbone(args.model, args.checkpoint), CLASSES, *args.size)
    return model, train(model, lambda images, targets: sum(model(images, targets).values()), RECIPE, args)


if __name__ == "__main__":
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    main()
