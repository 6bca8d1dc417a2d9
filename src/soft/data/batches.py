"""From single images to batches: bytes on the way, floats once they are on the device."""

import random
from collections.abc import Sequence, Sized
from typing import NamedTuple

import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from soft.data.bad_images import UnreadableImageError
from soft.data.sampling import seed_generators
from soft.data.transforms import Transform

TRIES = 100  # to find a training image that can be read


class Sample(NamedTuple):
    """One image for a batch.

    Attributes:
        pixels: uint8 (3, H, W); of a generated task int64 (fields, H, W); None if no image could be read.
        label: its class.
        erase_seed: seed for erasing a part of it; None to leave it whole.
        bad: what is wrong with the files that could not be read for it, by name.
        index: of an evaluation image, its place in the set; None in training.
    """

    pixels: Tensor | None
    label: int
    erase_seed: int | None
    bad: dict[str, str]
    index: int | None = None


class Batch(NamedTuple):
    """What a loader yields; `normalise_and_erase` turns its images into what a network takes.

    Attributes:
        images: uint8 (B, 3, H, W); of a generated task int64 (B, fields, H, W).
        labels: int64 (B,).
        erase_seeds: seeds for erasing a part of some images, by their index in the batch.
        bad: what is wrong with the files that could not be read, by name.
        indices: int64 (B,), the places of evaluation images in their set; None in training.
    """

    images: Tensor
    labels: Tensor
    erase_seeds: dict[int, int]
    bad: dict[str, str]
    indices: Tensor | None = None


class TransformedImages(Dataset):
    """A set of images with a transform, indexed by what the samplers of `soft.data.sampling` yield.

    An (epoch, index) pair seeds the global generators before the image is loaded and transformed, so that the result
    is a function of (seed, epoch, index); a third number tells repetitions of an image apart. Without workers this
    happens in the main process, whose generators stay as the image left them. A plain index, as used for evaluation,
    seeds nothing.

    If a training image cannot be read, another one is drawn with the same generators and takes its place. Order and
    counts stay the same on any number of devices and workers, and in a resumed run. An evaluation image that cannot be
    read is left out: a substitute would count twice, and a wrong answer would blame the network for a file.

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

    def __getitem__(self, drawn: int | tuple[int, ...]) -> Sample:
        if not isinstance(drawn, tuple):
            return self._load(drawn)._replace(index=drawn)
        seed_generators(self.seed, *drawn)
        sample = self._load(drawn[1])
        for _ in range(TRIES):
            if sample.pixels is not None or len(sample.bad) > self.max_bad_images:
                break
            other = self._load(random.randrange(len(self.images)))
            sample = other._replace(bad=sample.bad | other.bad)
        erase = random.random() < self.erase_prob
        return sample._replace(erase_seed=random.getrandbits(63)) if erase else sample

    def _load(self, index: int) -> Sample:
        try:
            image, label = self.images[index]
            with image:
                return Sample(self.transform(image), label, None, {})
        except UnreadableImageError as error:
            return Sample(None, 0, None, {error.name: error.reason})


def collate(samples: Sequence[Sample]) -> Batch:
    """Make one batch of the samples that have an image."""
    whole = [sample for sample in samples if sample.pixels is not None]
    evaluated = all(sample.index is not None for sample in samples)
    return Batch(
        images=default_collate([sample.pixels for sample in whole]) if whole else torch.empty(0, 3, 0, 0).byte(),
        labels=torch.tensor([sample.label for sample in whole], dtype=torch.int64),
        erase_seeds={i: sample.erase_seed for i, sample in enumerate(whole) if sample.erase_seed is not None},
        bad={name: reason for sample in samples for name, reason in sample.bad.items()},
        indices=torch.tensor([sample.index for sample in whole], dtype=torch.int64) if evaluated else None,
    )


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return bytes (B, 3, H, W) as floats around 0, on the same device.

    Args:
        mean, std: per RGB channel, for pixel values between 0 and 1.
    """
    images = images.float()
    for channel, (centre, scale) in enumerate(zip(mean, std, strict=True)):
        # Mean and deviation are plain numbers: to copy tensors to the device would wait for the work queued there.
        images[:, channel].sub_(255 * centre).div_(255 * scale)
    return images


def normalise_and_erase(batch: Batch, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return normalised images (B, 3, H, W), float32, some of them partly erased, on the batch's device.

    Erasing comes after normalisation, with normal noise of mean 0 and deviation 1 in every pixel, as in the released
    recipe. It reseeds the global generators for each erased image.

    Args:
        mean, std: as for `normalise`.
    """
    images = normalise(batch.images, mean, std)
    erase = RandomErasing(probability=1.0, mode="pixel", device=images.device)
    for index, seed in batch.erase_seeds.items():
        seed_generators(seed)
        erase(images[index])
    return images
