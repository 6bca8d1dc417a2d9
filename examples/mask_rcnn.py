"""Train Mask R-CNN with a SOFT backbone on generated masks: `python examples/mask_rcnn.py`, half a minute on a CPU."""

from dataclasses import replace

import torch
from generated import CLASSES
from pyramid import RECIPE as COCO
from pyramid import Backbone, create_pyramid
from torchvision.models.detection import MaskRCNN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from training import parse, train

RECIPE = replace(COCO, lr=2e-4)


def create_backbone(name: str, checkpoint: str = "") -> Backbone:
    """Build all stages and one smaller level: strides 4, 8, 16, 32 and 64."""
    return Backbone(create_pyramid(name, checkpoint), LastLevelMaxPool())


def main(words: list[str] | None = None) -> tuple[MaskRCNN, list[float]]:
    """Train, and return the model and the losses."""
    args = parse(words, RECIPE, size=(128, 192), batch=1, steps=8)
    torch.manual_seed(0)
    model = MaskRCNN(create_backbone(args.model, args.checkpoint), CLASSES, *args.size)
    return model, train(model, lambda images, targets: sum(model(images, targets).values()), RECIPE, args)


if __name__ == "__main__":
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    main()
