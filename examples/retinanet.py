"""Train RetinaNet with a SOFT backbone on generated boxes: `python examples/retinanet.py`, half a minute on a CPU."""

import torch
from generated import CLASSES
from pyramid import RECIPE, Backbone, create_pyramid
from torchvision.models.detection import RetinaNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from training import parse, train


def create_backbone(name: str, checkpoint: str = "") -> Backbone:
    """Build stages 2 to 4 and two smaller levels: strides 8, 16, 32, 64 and 128."""
    body = create_pyramid(name, checkpoint, out_indices=(1, 2, 3))
    return Backbone(body, LastLevelP6P7(body.feature_info.channels()[-1], Backbone.out_channels))


def main(words: list[str] | None = None) -> tuple[RetinaNet, list[float]]:
    """Train, and return the model and the losses."""
    args = parse(words, RECIPE, size=(128, 192), batch=2, steps=12)
    torch.manual_seed(0)
    model = RetinaNet(create_backbone(args.model, args.checkpoint), CLASSES, *args.size)
    return model, train(model, lambda images, targets: sum(model(images, targets).values()), RECIPE, args)


if __name__ == "__main__":
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    main()
