"""ImageNet, and anything laid out like it: one folder per class under train/ and under val/."""

import os
from collections import Counter
from pathlib import Path

from torchvision.datasets import ImageFolder

from soft.data.classes import classes_without, natural_order
from soft.data.decoding import open_image
from soft.data.image_files import EXTENSIONS, count_extensions, is_hidden, is_image, left_out
from soft.data.image_sets import ImageSets
from soft.errors import SettingError, first_few
from soft.settings import check_whole

VALIDATION = ("val", "validation")
ADVICE = "Set `data.root` to the folder that holds train/ and val/ (data=imagenet takes it from $IMAGENET_ROOT)."


class ClassFolders(ImageFolder):
    """The images of a folder that has one folder per class, hidden files and folders aside.

    Args:
        folder: holds the class folders.
        class_names: label k is the folder of this name. Folders of other names are not read.

    Attributes:
        left_out: numbers of files with extensions that are not read, by extension.
    """

    def __init__(self, folder: Path, class_names: list[str]):
        self.class_names = class_names
        self.left_out: Counter[str] = Counter()
        self._start = len(os.path.join(folder, ""))
        super().__init__(folder, loader=open_image, is_valid_file=self._is_image, allow_empty=True)

    @property
    def labels(self) -> list[int]:
        """Return the label of each image."""
        return self.targets

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """Return the names of the classes and the label of each, for torchvision."""
        return self.class_names, {name: label for label, name in enumerate(self.class_names)}

    def _is_image(self, path: str) -> bool:
        if is_hidden(path[self._start :]):
            return False
        if is_image(path):
            return True
        self.left_out += count_extensions([path])
        return False


def imagenet(
    root: Path, expected: dict[str, int] | None = None, train: bool = True, split: str | None = None
) -> ImageSets:
    """Read the folders; classes and images are counted, not assumed.

    To train, `root` holds train/ and val/ (or validation/, or `split`), whose class folders are named alike and have
    images. To evaluate, the evaluated folder is enough: val/, validation/ or test/ in `root`, or `root` itself if it
    has class folders only. Should there be a train/ beside it, the class folders there are classes too.

    Args:
        root: the folder of the data set.
        expected: the full data set's numbers of `classes`, `train` and `val` images; others give a note.
        train: read the training images too.
        split: the folder in `root` that is evaluated; None for the validation images.

    Raises:
        SettingError: a folder is missing, empty or has no partner.
    """
    if not root.is_dir():
        raise SettingError(f"`data.root`={root} is not a folder. {ADVICE}")
    if not any(not is_hidden(entry.name) for entry in os.scandir(root)):
        raise SettingError(f"`data.root`={root} is empty. {ADVICE}")
    return _to_train(root, expected, split) if train else _to_evaluate(root, expected, split)


def size_notes(expected: dict[str, int] | None, found: dict[str, int | None]) -> list[str]:
    """Return a note if the numbers of classes and images are not those of the full data set.

    Args:
        expected: `classes`, `train` and `val`; None for a data set of any size.
        found: the same; None for what was not read.
    """
    for name, count in (expected or {}).items():
        if count is not None:
            check_whole(f"`data.expected.{name}`", count, low=0)
    read = {name: count for name, count in found.items() if count is not None}
    known = {name: count for name, count in (expected or {}).items() if count is not None and name in read}
    if all(read[name] == count for name, count in known.items()):
        return []
    kinds = {"train": "training", "val": "validation"}
    images = " and ".join(f"{read[name]} {kind}" for name, kind in kinds.items() if name in read)
    numbers = ", ".join(f"{known[name]}" if name in known else "any" for name in read)
    return [f"this is not the full ImageNet-1K: {read['classes']} classes, {images} images (expected {numbers})"]


def _to_train(root: Path, expected: dict[str, int] | None, split: str | None) -> ImageSets:
    if not (root / "train").is_dir():
        raise SettingError(f"`data.root`={root} has no train/ folder. {ADVICE}")
    train_folder, val_folder = root / "train", _evaluated_folder(root, split)
    if val_folder is None:
        advice = "`data.split`=test validates on test/." if (root / "test").is_dir() else ADVICE
        raise SettingError(f"`data.root`={root} has train/ but neither val/ nor validation/. {advice}")
    names, val_names = _class_folders(train_folder), _class_folders(val_folder)
    if names != val_names:
        raise SettingError(
            f"The class folders of {train_folder} and {val_folder} (`data.root`) must be the same, but only one of "
            f"them has {first_few(natural_order(set(names) ^ set(val_names)))}."
        )
    sets, notes = {}, []
    for key, folder in (("train", train_folder), ("val", val_folder)):
        sets[key], more = _images(folder, names)
        notes += more
        if empty := classes_without(sets[key].targets, names):
            raise SettingError(f"{folder} (`data.root`) has class folders without images: {first_few(empty)}.")
    counts = {"classes": len(names), "train": len(sets["train"])}
    counts["val"] = len(sets["val"]) if split is None else None
    return ImageSets(sets["train"], sets["val"], names, notes + size_notes(expected, counts))


def _to_evaluate(root: Path, expected: dict[str, int] | None, split: str | None) -> ImageSets:
    folder = _evaluated_folder(root, split)
    if folder is None and (root / "test").is_dir():
        folder = root / "test"
    if folder is None and (root / "train").is_dir():
        raise SettingError(
            f"`data.root`={root} has train/ but none of val/, validation/ and test/. `data.split`=train evaluates the "
            "training images."
        )
    folder = folder or root
    names = set(_class_folders(folder))
    if (root / "train").is_dir():
        names |= set(_subfolders(root / "train"))
    names = natural_order(names)
    images, notes = _images(folder, names)
    if empty := classes_without(images.targets, names):
        notes.append(f"{len(empty)} of {len(names)} classes have no image in {folder}, such as {empty[0]}")
    usual = folder.name in VALIDATION and folder.parent == root
    if usual:
        notes += size_notes(expected, {"classes": len(names), "train": None, "val": len(images)})
    else:
        notes.append(f"the images of {folder} are evaluated")
    return ImageSets(None, images, names, notes)


def _evaluated_folder(root: Path, split: str | None) -> Path | None:
    """Return the folder of a split; None if no split is asked for and there is no folder of validation images."""
    wanted = VALIDATION if split is None or split in VALIDATION else (split,)
    found = next((root / name for name in wanted if (root / name).is_dir()), None)
    if found is None and split is not None:
        there = first_few(_subfolders(root)) or "none"
        raise SettingError(f"`data.split`={split} is not a folder in `data.root`={root}; there are {there}.")
    return found


def _subfolders(folder: Path) -> list[str]:
    return natural_order(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))


def _class_folders(folder: Path) -> list[str]:
    names = _subfolders(folder)
    if not names:
        raise SettingError(
            f"{folder} (`data.root`) holds no class folders; its images must be sorted into one folder per class."
        )
    return names


def _images(folder: Path, names: list[str]) -> tuple[ClassFolders, list[str]]:
    """Return the images of a folder, and notes on what is left out there."""
    images = ClassFolders(folder, names)
    if not len(images):
        found = "".join(f" It holds files with the extension {first_few(images.left_out)}." if images.left_out else "")
        raise SettingError(
            f"{folder} (`data.root`) holds no images; these extensions count: {', '.join(EXTENSIONS)}.{found}"
        )
    beside = [entry.name for entry in os.scandir(folder) if entry.is_file() and not is_hidden(entry.name)]
    strays = sum(map(is_image, beside))
    notes = left_out(images.left_out, f"files in {folder}")
    if strays:
        notes.append(f"images in {folder} that are left out, not being in a class folder: {strays}")
    return images, notes
