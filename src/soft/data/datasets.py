"""The data sets by name, and those that fit in memory.

A builder's keywords are the data set's own options; conf/data/ has one file per data set that sets them.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock
from torchvision.datasets import CIFAR10, FashionMNIST

from soft.data.hugging_face import hugging_face
from soft.data.image_folder import imagenet
from soft.data.image_sets import ArrayImages, ImageSets, NoiseImages
from soft.data.shards import copy_remote_shards, imagenet_shards
from soft.errors import SettingError
from soft.settings import check_pixels, check_whole

FASHION_MNIST_FILES = [
    f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]


def digits() -> ImageSets:
    """Handwritten digits of 8 x 8 pixels that come with scikit-learn: 1,437 to train on, 360 to validate on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    train, val = train_test_split(np.arange(len(images)), test_size=360, stratify=bunch.target, random_state=0)
    return ImageSets(
        train=ArrayImages(images[train], bunch.target[train]),
        val=ArrayImages(images[val], bunch.target[val]),
        class_names=[str(name) for name in bunch.target_names],
    )


def fashion_mnist(root: Path, train_images: int | None = None) -> ImageSets:
    """Fashion-MNIST, 28 x 28 pixels: 60,000 to train on; the official test set of 10,000 is the validation set.

    Reads <root>/FashionMNIST/raw/ and takes compressed files as they are, which torchvision would unpack in place.

    Args:
        train_images: only the first ones of the training file, whose order is random; None for all.
    """
    if train_images is not None:
        check_whole("data.train_images", train_images, least=1)
    if not _has_fashion_mnist(root):
        raise _missing_fashion_mnist(root)
    folder = _fashion_mnist_folder(root)
    images, labels, val_images, val_labels = (_read_idx(folder / name) for name in FASHION_MNIST_FILES)
    train = ArrayImages(images[:train_images], labels[:train_images])
    return ImageSets(train, ArrayImages(val_images, val_labels), FashionMNIST.classes)


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
        f"Fashion-MNIST is not under data.root={root} and could not be downloaded. Put these files (or .gz) "
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
        raise SettingError(f"{source} (data.root) is damaged; replace it with a fresh copy.") from error


def cifar10(root: Path) -> ImageSets:
    """CIFAR-10, 32 x 32 pixels: 50,000 to train on; the official test set of 10,000 is the validation set."""
    try:
        train, val = CIFAR10(root, train=True), CIFAR10(root, train=False)
    except RuntimeError as error:
        raise _missing_cifar10(root) from error
    return ImageSets(ArrayImages(train.data, train.targets), ArrayImages(val.data, val.targets), train.classes)


def download_cifar10(root: Path) -> None:
    """Fetch CIFAR-10 into `root` unless it is there."""
    try:
        CIFAR10(root, download=True)
    except (OSError, RuntimeError) as error:
        raise _missing_cifar10(root) from error


def _missing_cifar10(root: Path) -> SettingError:
    return SettingError(
        f"CIFAR-10 is not under data.root={root} and could not be downloaded. Put cifar-10-python.tar.gz from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html into {root}."
    )


def fake(train_images: int, val_images: int, classes: int, source_size: int | list[int]) -> ImageSets:
    """Noise without a file: for trying out a set-up and for timing one.

    Args:
        train_images, val_images: number of images.
        classes: number of classes.
        source_size: pixels before any transform, an integer or [height, width].
    """
    check_whole("data.train_images", train_images, least=1)
    check_whole("data.val_images", val_images, least=1)
    check_whole("data.classes", classes, least=1)
    check_pixels("data.source_size", source_size)
    height_width = (source_size, source_size) if isinstance(source_size, int) else tuple(source_size)
    return ImageSets(
        train=NoiseImages(train_images, height_width, classes, stream=0),
        val=NoiseImages(val_images, height_width, classes, stream=1),
        class_names=[f"class {label}" for label in range(classes)],
        notes=["the images are random noise: accuracy means nothing"],
    )


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """One process at a time, also where torchrun or SLURM started several that all find the folder empty."""
    lock = FileLock(root / ".download.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):  # a folder to read from, or a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


BUILDERS: dict[str, Callable[..., ImageSets]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "imagenet": imagenet,
    "imagenet_wds": imagenet_shards,
    "hf": hugging_face,
    "fake": fake,
}

# For those that can be fetched; the others come with a package or must be put in place by hand.
DOWNLOADS: dict[str, Callable[[Path], None]] = {
    "fashion_mnist": download_fashion_mnist,
    "cifar10": download_cifar10,
}

# For those that may lie elsewhere; takes the data set's options.
COPIES: dict[str, Callable[..., None]] = {"imagenet_wds": copy_remote_shards}
