"""`ImageSets`, which every builder of a data set returns, and two sets of images that come from no files."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from torch.utils.data import Dataset


@dataclass
class ImageSets:
    """The images of a data set that a run reads; all of them share one list of classes.

    Attributes:
        train: the images to train on; None where only an evaluation was asked for.
        val: the images to validate or evaluate on. In both sets, `images[index]` is (PIL image, label from 0). The
            image may be one that `soft.data.decoding.open_image` has opened and nobody has decoded.
        class_names: one name per label.
        notes: phrases about the data that belong in a run's summary.
    """

    train: Dataset | None
    val: Dataset
    class_names: list[str]
    notes: list[str] = field(default_factory=list)


def image_name(images: Dataset, index: int) -> str:
    """Return the path of an image that lies in a file of its own, and the index of any other image, as text."""
    samples = getattr(images, "samples", None)  # torchvision's name for (path, label) pairs
    return str(samples[index][0]) if samples else str(index)


def labels_of(images: Dataset) -> np.ndarray | None:
    """Return the labels (N,) of all images, from 0; None where images are labelled only when they are made."""
    labels = getattr(images, "labels", None)
    return None if labels is None else np.asarray(labels, np.int64)


class ArrayImages(Dataset):
    """Images held in memory as bytes: `images` (N, H, W) or (N, H, W, 3), uint8; `labels` (N,), integers."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]).convert("RGB"), int(self.labels[index])


class NoiseImages(Dataset):
    """Uniform noise, drawn when asked for and the same every time; label = index modulo `classes`.

    Args:
        size: number of images.
        height_width: pixels.
        classes: number of classes.
        stream: sets with another number hold other images.
    """

    def __init__(self, size: int, height_width: tuple[int, int], classes: int, stream: int):
        self.size = size
        self.shape = (*height_width, 3)
        self.classes = classes
        self.stream = stream

    @property
    def labels(self) -> np.ndarray:
        """Return the labels (N,)."""
        return np.arange(self.size) % self.classes

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = np.random.default_rng((self.stream, index)).integers(256, size=self.shape, dtype=np.uint8)
        return Image.fromarray(pixels), index % self.classes
