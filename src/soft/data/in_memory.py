"""The data sets that fit in memory: digits, Fashion-MNIST, CIFAR-10, and noise."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, FashionMNIST

from soft.data.classes import classes_without
from soft.data.image_sets import ArrayImages, ImageSets, NoiseImages
from soft.errors import SettingError, first_few
from soft.settings import check_pixels, check_whole

FASHION_MNIST_FILES = [
    f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]


def digits(train: bool = True, split: str | None = None) -> ImageSets:
    """Return scikit-learn's handwritten digits, 8 x 8 pixels: 1,437 to train on, and 360 to validate on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    parts = train_test_split(np.arange(len(images)), test_size=360, stratify=bunch.target, random_state=0)
    train_set, val_set = (ArrayImages(images[part], bunch.target[part]) for part in parts)
    val = val_set if _is_validation("digits", split) else train_set
    return ImageSets(train_set if train else None, val, [str(name) for name in bunch.target_names])


def fashion_mnist(
    root: Path, train_images: int | None = None, train: bool = True, split: str | None = None
) -> ImageSets:
    """Return Fashion-MNIST, 28 x 28 pixels: 60,000 to train on, and the official test set of 10,000 to validate on.

    Reads <root>/FashionMNIST/raw/ and takes compressed files as they are, which torchvision would unpack in place.

    Args:
        train_images: only the first ones of the training file, whose order is random; None for all.
    """
    if train_images is not None:
        check_whole("`data.train_images`", train_images, low=1)
    if not _has_fashion_mnist(root):
        raise _missing_fashion_mnist(root)
    validation = _is_validation("fashion_mnist", split, official="test")
    folder = _fashion_mnist_folder(root)
    train_set = val_set = None
    notes = []
    if train or not validation:
        images, labels = (_read_idx(folder / name)[:train_images] for name in FASHION_MNIST_FILES[:2])
        train_set = ArrayImages(images, labels)
        if missing := classes_without(labels, FashionMNIST.classes):
            notes.append(f"the first {train_images} training images show none of the classes {first_few(missing)}")
    if validation:
        val_set = ArrayImages(*(_read_idx(folder / name) for name in FASHION_MNIST_FILES[2:]))
    return ImageSets(train_set if train else None, val_set if validation else train_set, FashionMNIST.classes, notes)


def download_fashion_mnist(root: Path) -> None:
    """Fetch Fashion-MNIST into `root` unless it is there."""
    if _has_fashion_mnist(root):
        return
    try:
        FashionMNIST(root, download=True)
    except (OSError, RuntimeError) as error:
        raise _missing_fashion_mnist(root) from error


def _fashion_mnist_folder(root: Path) -> Path:
    return root / "FashionMNIST" / "raw"


def _has_fashion_mnist(root: Path) -> bool:
    files = [_fashion_mnist_folder(root) / name for name in FASHION_MNIST_FILES]
    return all(file.is_file() or _compressed(file).is_file() for file in files)


def _missing_fashion_mnist(root: Path) -> SettingError:
    return SettingError(
        f"Fashion-MNIST is not under `data.root`={root} and could not be downloaded. Put these files (or .gz) "
        f"into {_fashion_mnist_folder(root)}: {', '.join(FASHION_MNIST_FILES)}."
    )


def _compressed(file: Path) -> Path:
    return file.with_name(f"{file.name}.gz")


def _read_idx(file: Path) -> np.ndarray:
    """Read an MNIST file: 2 zero bytes, type (8: bytes), number of axes, axis lengths (big-endian), then the bytes."""
    source = file if file.is_file() else _compressed(file)
    try:
        content = source.read_bytes() if source is file else gzip.decompress(source.read_bytes())
        lengths = np.frombuffer(content, ">i4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + lengths.nbytes).reshape(lengths)
    except (EOFError, IndexError, OSError, ValueError, zlib.error) as error:
        raise SettingError(f"{source} (`data.root`) is damaged; replace it with a fresh copy.") from error


def cifar10(root: Path, train: bool = True, split: str | None = None) -> ImageSets:
    """Return CIFAR-10, 32 x 32 pixels: 50,000 to train on, and the official test set of 10,000 to validate on."""
    validation = _is_validation("cifar10", split, official="test")
    sets = {}
    for part in {train, not validation}:
        try:
            source = CIFAR10(root, train=part)
        except RuntimeError as error:
            raise _missing_cifar10(root) from error
        sets[part] = ArrayImages(source.data, source.targets)
    return ImageSets(sets[True] if train else None, sets[not validation], source.classes)


def download_cifar10(root: Path) -> None:
    """Fetch CIFAR-10 into `root` unless it is there."""
    try:
        CIFAR10(root, download=True)
    except (OSError, RuntimeError) as error:
        raise _missing_cifar10(root) from error


def _missing_cifar10(root: Path) -> SettingError:
    return SettingError(
        f"CIFAR-10 is not under `data.root`={root} and could not be downloaded. Put cifar-10-python.tar.gz from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html into {root}."
    )


def fake(
    train_images: int,
    val_images: int,
    classes: int,
    source_size: int | list[int],
    train: bool = True,
    split: str | None = None,
) -> ImageSets:
    """Return noise, made without a file, for trying out a set-up and for timing one.

    Args:
        train_images, val_images: number of images.
        classes: number of classes.
        source_size: pixels before any transform, an integer or [height, width].
    """
    check_whole("`data.train_images`", train_images, low=1)
    check_whole("`data.val_images`", val_images, low=1)
    check_whole("`data.classes`", classes, low=1)
    check_pixels("`data.source_size`", source_size)
    height_width = (source_size, source_size) if isinstance(source_size, int) else tuple(source_size)
    train_set = NoiseImages(train_images, height_width, classes, stream=0)
    val_set = NoiseImages(val_images, height_width, classes, stream=1)
    return ImageSets(
        train_set if train else None,
        val_set if _is_validation("fake", split) else train_set,
        class_names=[str(label) for label in range(classes)],
        notes=["the images are random noise: accuracy means nothing"],
    )


def _is_validation(dataset: str, split: str | None, official: str | None = None) -> bool:
    """Return whether a split is that of the validation images, and not of the training images.

    Args:
        official: another name of the validation images, which the publishers of the data set gave them.
    """
    names = {None: True, "val": True, "validation": True, "train": False} | ({official: True} if official else {})
    if split not in names:
        known = ", ".join(filter(None, names))
        raise SettingError(f"`data.split`={split} is not a part of {dataset}, which has {known}.")
    return names[split]
