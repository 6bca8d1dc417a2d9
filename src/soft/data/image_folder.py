"""ImageNet, and anything laid out like it: one folder per class under train/ and under val/."""

from pathlib import Path

import numpy as np
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes

from soft.data.decoding import open_image
from soft.data.image_sets import ImageSets
from soft.errors import SettingError, first_few


def imagenet(root: Path, expected: dict[str, int] | None = None) -> ImageSets:
    """Read the folders; classes and images are counted, not assumed.

    Args:
        root: holds train/ and val/ (or validation/), each with one folder of images per class, named alike.
        expected: the full data set's numbers of `classes`, `train` and `val` images; others give a note.

    Raises:
        SettingError: a folder is missing, empty or has no partner.
    """
    train_folder, val_folder = _split_folders(root)
    train_classes, val_classes = _class_folders(train_folder), _class_folders(val_folder)
    if train_classes != val_classes:
        raise SettingError(
            f"The class folders of {train_folder} and {val_folder} (data.root) must be the same, but only one of "
            f"them has {first_few(sorted(set(train_classes) ^ set(val_classes)))}."
        )
    train, val = _images(train_folder), _images(val_folder)

    return ImageSets(train, val, train_classes, size_notes(len(train_classes), len(train), len(val), expected))


def size_notes(classes: int, train: int, val: int, expected: dict[str, int] | None) -> list[str]:
    """A note if the numbers of classes, training and validation images are not those of the full data set."""
    if not expected or {"classes": classes, "train": train, "val": val} == expected:
        return []
    return [
        f"this is not the full ImageNet-1K: {classes} classes, {train} training and {val} validation images "
        f"(expected {expected['classes']}, {expected['train']}, {expected['val']})"
    ]


def _split_folders(root: Path) -> tuple[Path, Path]:
    advice = "Set data.root or $IMAGENET_ROOT to the folder that holds train/ and val/."
    if not root.is_dir():
        raise SettingError(f"data.root={root} is not a folder. {advice}")
    if not any(root.iterdir()):
        raise SettingError(f"data.root={root} is empty. {advice}")
    if not (root / "train").is_dir():
        raise SettingError(f"data.root={root} has no train/ folder. {advice}")
    for name in ("val", "validation"):
        if (root / name).is_dir():
            return root / "train", root / name
    raise SettingError(f"data.root={root} has train/ but neither val/ nor validation/. {advice}")


def _class_folders(folder: Path) -> list[str]:
    try:
        return find_classes(folder)[0]
    except FileNotFoundError:
        raise SettingError(
            f"{folder} (data.root) holds no class folders; its images must be sorted into one folder per class."
        ) from None


def _images(folder: Path) -> ImageFolder:
    images = ImageFolder(folder, loader=open_image, allow_empty=True)
    if not len(images):
        raise SettingError(f"{folder} (data.root) holds no images; these count: {', '.join(IMG_EXTENSIONS)}.")
    counts = np.bincount(images.targets, minlength=len(images.classes))
    if not counts.all():
        empty = [name for name, count in zip(images.classes, counts, strict=True) if not count]
        raise SettingError(f"{folder} (data.root) has class folders without images: {first_few(sorted(empty))}.")
    return images
