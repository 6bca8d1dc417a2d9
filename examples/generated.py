"""Generated images with boxes and masks, in the place where a data set would be."""

import torch
from torch import Tensor

Targets = list[dict[str, Tensor]]
CLASSES = 4  # background, red, green and blue


def generate(batch: int, short: int, long: int) -> tuple[list[Tensor], Targets]:
    """Draw images of noise with three rectangles in the colours of their classes, with sides from `short` to `long`.

    Returns:
        images: (3, H, W) each, from 0 to 1.
        targets: what torchvision's detectors take, `boxes` (3, 4) as left, top, right and bottom, `labels` (3) from 1
            on and `masks` (3, H, W); and `classes` (H, W), the label of each pixel, 0 for the background.
    """
    images, targets = [], []
    for _ in range(batch):
        height, width = torch.randint(short, long + 1, (2,)).tolist()
        image, classes = torch.rand(3, height, width), torch.zeros(height, width, dtype=torch.long)
        masks, labels = torch.zeros(3, height, width, dtype=torch.uint8), torch.randint(1, CLASSES, (3,))
        corners, sides = torch.randint(short // 2, (3, 2)), torch.randint(short // 4, short // 2, (3, 2))
        boxes = torch.cat([corners, corners + sides], 1)
        for mask, label, (left, top, right, bottom) in zip(masks, labels, boxes.tolist(), strict=True):
            mask[top:bottom, left:right] = 1
            image[:, top:bottom, left:right] = torch.eye(3)[label - 1, :, None, None]
            classes[top:bottom, left:right] = label
        images.append(image)
        targets.append({"boxes": boxes.float(), "labels": labels, "masks": masks, "classes": classes})
    return images, targets
