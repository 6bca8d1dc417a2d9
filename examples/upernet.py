"""Train UperNet with a SOFT backbone on generated masks: `python examples/upernet.py`, half a minute on a CPU."""

import torch
from generated import CLASSES, Targets
from pyramid import create_pyramid
from torch import Tensor, cat, nn, stack
from torchvision.ops import Conv2dNormActivation as Conv  # with BatchNorm and ReLU
from torchvision.transforms.functional import normalize
from training import Recipe, parse, train

RECIPE = Recipe(size=(512,), batch=16, steps=160_000, lr=6e-5, weight_decay=0.01, warmup=1500, power=1.0)  # ADE20K


def resize(x: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(x, like.shape[2:], mode="bilinear")


class UperNet(nn.Module):
    """Pooled context, a top-down pyramid, and a classifier of all its levels (Xiao et al., ECCV 2018)."""

    def __init__(self, body: nn.Module, classes: int, width: int = 512):
        super().__init__()
        *sides, top = body.feature_info.channels()
        self.body = body
        self.pools = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(n), Conv(top, width, 1)) for n in (1, 2, 3, 6))
        self.context = Conv(top + 4 * width, width)
        self.sides = nn.ModuleList(Conv(side, width, 1) for side in sides)
        self.smooth = nn.ModuleList(Conv(width, width) for _ in sides)
        self.head = nn.Sequential(Conv(4 * width, width), nn.Dropout2d(0.1), nn.Conv2d(width, classes, 1))
        self.auxiliary = nn.Sequential(Conv(sides[-1], 256), nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        *sides, top = self.body(normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x = self.context(cat([top, *(resize(pool(top), top) for pool in self.pools)], 1))
        levels = [resize(x, sides[0])]
        for i in reversed(range(len(sides))):
            x = self.sides[i](sides[i]) + resize(x, sides[i])
            levels.append(resize(self.smooth[i](x), sides[0]))
        return resize(self.head(cat(levels, 1)), images), resize(self.auxiliary(sides[-1]), images)

    def loss(self, images: list[Tensor], targets: Targets) -> Tensor:
        classes, of_pixels = stack([target["classes"] for target in targets]), nn.CrossEntropyLoss(ignore_index=255)
        logits, auxiliary = self(stack(images))
        return of_pixels(logits, classes) + 0.4 * of_pixels(auxiliary, classes)


def main(words: list[str] | None = None) -> tuple[UperNet, list[float]]:
    """Train, and return the model and the losses."""
    args = parse(words, RECIPE, size=(128,), batch=2, steps=8)
    torch.manual_seed(0)
    model = UperNet(create_pyramid(args.model, args.checkpoint), CLASSES)
    return model, train(model, model.loss, RECIPE, args)


if __name__ == "__main__":
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    main()
