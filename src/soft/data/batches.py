"""From positions to batches: bytes on the way, floats once they are on the device."""

import random
from collections.abc import Sequence, Sized
from typing import NamedTuple

import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from soft.data.bad_images import UnreadableImageError
from soft.data.sampling import seed_position
from soft.data.transforms import Transform

TRIES = 100  # to find a training image that can be read


class Sample(NamedTuple):
    """One position of a batch.

    Attributes:
        pixels: uint8 (3, H, W); None where there is no image to put here.
        label: its class.
        noise: seed of the noise that erases a part of it; None to leave it whole.
        bad: what is wrong with the files that could not be read here, by name.
    """

    pixels: Tensor | None
    label: int
    noise: int | None
    bad: dict[str, str]


class Batch(NamedTuple):
    """What a loader yields; `finish` makes of it what a network takes.

    Attributes:
        images: uint8 (B, 3, H, W).
        labels: int64 (B,).
        noise: seeds of the noise that erases a part of some images, by place in the batch.
        bad: what is wrong with the files that could not be read, by name.
    """

    images: Tensor
    labels: Tensor
    noise: dict[int, int]
    bad: dict[str, str]


class TransformedImages(Dataset):
    """A set of images with a transform, indexed by what the samplers of `soft.data.sampling` yield.

    An (epoch, index) pair seeds the global generators before the image is loaded and transformed, so that the result
    is a function of (seed, epoch, index). Without workers this happens in the main process, whose generators are then
    left at that position. A plain index, as used for evaluation, seeds nothing.

    Where a training image cannot be read, another one takes its place, drawn with that position's generators: order,
    counts and resumed runs stay what they are on any number of devices and workers. An evaluation image is left out,
    since a substitute would count twice and a wrong answer would blame the network for a file.

    Args:
        images: `images[index]` gives (PIL image, decoded or not, label).
        transform: makes uint8 pixels (3, H, W) of the image.
        seed: the run's seed.
        erase_prob: probability that a training image has a part erased.
        max_bad_images: the run's limit; beyond it no other image is tried.
    """

    def __init__(
        self,
        images: Dataset | Sized,
        transform: Transform,
        seed: int,
        erase_prob: float = 0.0,
        max_bad_images: int = 0,
    ):
        self.images = images
        self.transform = transform
        self.seed = seed
        self.erase_prob = erase_prob
        self.max_bad_images = max_bad_images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int | tuple[int, int]) -> Sample:
        if not isinstance(position, tuple):
            return self._load(position)
        epoch, index = position
        seed_position(self.seed, epoch, index)
        sample = self._load(index)
        for _ in range(TRIES):
            if sample.pixels is not None or len(sample.bad) > self.max_bad_images:
                break
            other = self._load(random.randrange(len(self.images)))
            sample = other._replace(bad=sample.bad | other.bad)
        erase = random.random() < self.erase_prob
        return sample._replace(noise=random.getrandbits(63)) if erase else sample

    def _load(self, index: int) -> Sample:
        try:
            image, label = self.images[index]
            with image:
                return Sample(self.transform(image), label, None, {})
        except UnreadableImageError as error:
            return Sample(None, 0, None, {error.name: error.reason})


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch, without the positions that have no image."""
    whole = [sample for sample in samples if sample.pixels is not None]
    return Batch(
        images=default_collate([sample.pixels for sample in whole]) if whole else torch.empty(0, 3, 0, 0).byte(),
        labels=torch.tensor([sample.label for sample in whole], dtype=torch.int64),
        noise={place: sample.noise for place, sample in enumerate(whole) if sample.noise is not None},
        bad={name: reason for sample in samples for name, reason in sample.bad.items()},
    )


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bytes (B, 3, H, W) -> floats around 0, on the same device.

    Args:
        mean, std: per RGB channel, for pixel values between 0 and 1.
    """
    images = images.float()
    for channel, (centre, scale) in enumerate(zip(mean, std, strict=True)):
        # Plain numbers: tensors would have to be copied to the device, and that waits for what runs there.
        images[:, channel].sub_(255 * centre).div_(255 * scale)
    return images


def finish(batch: Batch, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised images (B, 3, H, W), float32, some of them erased, on the batch's device.

    Erasing comes after normalisation, with normal noise of mean 0 and deviation 1 in every pixel, as in the released
    recipe; it leaves the global generators wherever the last erased image takes them.

    Args:
        mean, std: as for `normalise`.
    """
    images = normalise(batch.images, mean, std)
    erase = RandomErasing(probability=1.0, mode="pixel", device=images.device)
    for place, seed in batch.noise.items():
        seed_position(seed)
        erase(images[place])
    return images
