"""From an image that is not decoded yet to bytes of the size that the network takes.

Normalisation, erasing and mixing follow for whole batches on the device: `soft.data.batches` and the training step.
"""

import math
import random
from collections.abc import Callable

from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment, posterize
from timm.data.transforms import RandomResizedCropAndInterpolation, ResizeKeepRatio
from timm.layers import to_2tuple
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from soft.data.augmentation import INTERPOLATIONS, Augmentation
from soft.data.decoding import decode

Transform = Callable[[Image.Image], Tensor]


def train_transform(augment: Augmentation, img_size: int | tuple[int, int], mean: tuple[float, ...]) -> Transform:
    """Return the transform of a training image of any size, opened or in memory, into a uint8 tensor (3, H, W).

    It draws from Python's, NumPy's and PyTorch's global generators.

    Args:
        augment: the recipe. If it keeps images as they are, they are resized and cropped at the centre.
        img_size: pixels, an integer or (height, width).
        mean: per RGB channel, for pixel values between 0 and 1; it fills what RandAugment's shifts leave free.
    """
    if augment.keeps_images:
        interpolation = "bicubic" if augment.interpolation == "random" else augment.interpolation
        return EvalTransform(img_size, crop_pct=1.0, interpolation=interpolation)
    return TrainTransform(augment, img_size, mean)


class TrainTransform:
    """timm's random crop, flip and colours. The crop is drawn first, and only what it needs is decoded."""

    def __init__(self, augment: Augmentation, img_size: int | tuple[int, int], mean: tuple[float, ...]):
        self.augment = augment
        self.size = to_2tuple(img_size)
        self.interpolations = INTERPOLATIONS if augment.interpolation == "random" else (augment.interpolation,)
        _, colours, _ = create_transform(
            img_size,
            is_training=True,
            interpolation=augment.interpolation,
            color_jitter=augment.color_jitter or None,
            auto_augment=augment.rand_augment,
            mean=mean,
            separate=True,
        )
        self.colours = colours.transforms
        allow_zero_bits(self.colours)

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = self._crop(image)
        if random.random() < self.augment.hflip:
            pixels = pixels.flip(-1)
        if self.colours:
            picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
            for step in self.colours:
                picture = step(picture)
            pixels = decode(picture)
        return pixels

    def _crop(self, image: Image.Image) -> Tensor:
        top, left, height, width = RandomResizedCropAndInterpolation.get_params(
            image, self.augment.crop_scale, self.augment.crop_ratio
        )
        interpolation = random.choice(self.interpolations)
        part = decode(image, (left, top, left + width, top + height), target=self.size)
        return resize(part, self.size, InterpolationMode(interpolation), antialias=True)


class EvalTransform:
    """The transform of an evaluation image of any size, opened or in memory, into a uint8 tensor (3, H, W).

    The short side is resized to floor(img_size / crop_pct) and the centre is cropped, as timm does. Values are within
    one grey level of Pillow's in the mean.

    Args:
        img_size: pixels, an integer or (height, width).
        crop_pct: share of the resized image's short side that the crop keeps.
        interpolation: bilinear or bicubic.
    """

    def __init__(self, img_size: int | tuple[int, int], crop_pct: float, interpolation: str):
        self.size = to_2tuple(img_size)
        self.short_sides = tuple(math.floor(side / crop_pct) for side in self.size)
        self.interpolation = InterpolationMode(interpolation)

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = decode(image)
        if self.short_sides[0] == self.short_sides[1]:
            size = self.short_sides[:1]
        else:
            size = ResizeKeepRatio.get_params(pixels, self.short_sides, longest=0.0)
        return center_crop(resize(pixels, size, self.interpolation, antialias=True), self.size)


def allow_zero_bits(steps: list[Callable]) -> None:
    """Let the strongest posterize of any RandAugment in `steps` keep 0 bits, which gives a black image.

    Pillow did so itself before version 13, which refuses it.
    """
    for step in steps:
        for op in step.ops if isinstance(step, RandAugment) else ():
            if op.aug_fn is posterize:
                op.aug_fn = _posterize


def _posterize(image: Image.Image, bits_to_keep: int, **_) -> Image.Image:
    return posterize(image, bits_to_keep) if bits_to_keep > 0 else Image.new(image.mode, image.size)
