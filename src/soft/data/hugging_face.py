"""Image classification sets of the Hugging Face `datasets` library, from the Hub or from a folder."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from soft.data.classes import classes_without, natural_order
from soft.data.decoding import open_image
from soft.data.image_sets import ImageSets
from soft.errors import SettingError, first_few
from soft.settings import as_text, check_text

if TYPE_CHECKING:
    import datasets

MAX_CLASSES = 1_000_000


class HubImages(Dataset):
    """Rows of a split; `images[index]` is (PIL image that `open_image` opened, label from 0).

    Args:
        rows: with a column of undecoded images, each as bytes or as a path.
        column: its name.
        labels: (N,) integers.
    """

    def __init__(self, rows: "datasets.Dataset", column: str, labels: np.ndarray):
        self.rows = rows
        self.column = column
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image, label = self.rows[index][self.column], int(self.labels[index])
        if image["bytes"] is None:
            return open_image(image["path"]), label
        return open_image(io.BytesIO(image["bytes"]), f"row {index}"), label


def hugging_face(
    path: str,
    subset: str | None,
    revision: str | None,
    train_split: str,
    val_split: str,
    image_column: str,
    label_column: str,
    train: bool = True,
    split: str | None = None,
) -> ImageSets:
    """Read a data set that is on this machine, or fetch it from the Hub into the library's own cache.

    Args:
        path: a name on the Hub; or a folder of class folders or parquet files, or one that `save_to_disk` wrote.
        subset: the data set's configuration, where it has several.
        revision: branch, tag or commit on the Hub.
        train_split, val_split: splits, or parts of one such as train[:90%].
        image_column: of images, or of their bytes or paths.
        label_column: of class numbers from 0, or of class names.
        train: read `train_split` too.
        split: what is evaluated instead of `val_split`: a split or a part of one.

    Raises:
        SettingError: `datasets` is not installed, there is no such data set, split or column, the class names of the
            splits cannot be matched, or a class has images to validate on and none to train on.
    """
    try:
        import datasets
    except ImportError as error:
        raise SettingError("`data.dataset`=hf needs the package datasets: pip install -e '.[hf]'.") from error
    for name, value in dict(
        path=path, train_split=train_split, val_split=val_split, image_column=image_column, label_column=label_column
    ).items():
        check_text(f"`data.{name}`", value)
    subset, revision = (
        None if value is None else as_text(f"`data.{name}`", value)
        for name, value in {"subset": subset, "revision": revision}.items()
    )
    path = str(Path(path).expanduser())
    wanted = {"train": ("train_split", train_split)} if train else {}
    wanted["val"] = ("val_split", val_split) if split in (None, "val") else ("split", split)
    saved = _load_saved(path)
    if saved is None:
        _check_parquet_names(path, subset, label_column)
    rows = {
        key: _load(path, subset, revision, setting, part) if saved is None else _select(path, saved, setting, part)
        for key, (setting, part) in wanted.items()
    }
    names = _class_names(rows, label_column)
    sets = {}
    for key, part in rows.items():
        labels = _labels(part, label_column, names, wanted[key][1])
        if image_column not in part.column_names:
            raise _no_column("image", image_column, part)
        try:
            images = part.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
        except (NotImplementedError, TypeError, ValueError) as error:  # pyarrow has all of them
            raise SettingError(f"`data.image_column`={image_column} holds no images: {error}.") from error
        sets[key] = HubImages(images, image_column, labels)
    notes = _check_classes(sets, names, {key: part for key, (_, part) in wanted.items()})
    return ImageSets(sets.get("train"), sets["val"], names, notes)


def _load(path: str, subset: str | None, revision: str | None, setting: str, split: str) -> "datasets.Dataset":
    import datasets

    try:
        return datasets.load_dataset(path, subset, split=split, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise SettingError(
            f"`data.path`={path}, `data.{setting}`={split} cannot be loaded: {' '.join(str(error).split())}"
        ) from error


def _load_saved(path: str) -> "dict[str, datasets.Dataset] | None":
    """Return the splits that `save_to_disk` wrote to a folder, or None if it wrote nothing there."""
    import datasets

    if not any((Path(path) / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    try:
        saved = datasets.load_from_disk(path)
    except (OSError, KeyError, ValueError) as error:
        raise SettingError(f"`data.path`={path} cannot be loaded: {' '.join(str(error).split())}") from error
    if isinstance(saved, dict):
        return dict(saved)
    # A part or a mixture of splits keeps its description as a name.
    name = str(saved.split)
    return {name if saved.split is not None and name.isidentifier() else "train": saved}


def _check_parquet_names(path: str, subset: str | None, column: str) -> None:
    """Refuse parquet files with unlike class names: the library gives those of the first to the numbers of all."""
    import datasets
    import pyarrow.parquet as pq

    if not any(Path(path).rglob("*.parquet")):
        return  # a name on the Hub, or a folder of images
    try:
        files = datasets.load_dataset_builder(path, subset).config.data_files or {}
        paths = [file for split in files.values() for file in split if str(file).endswith(".parquet")]
        features = {file: datasets.Features.from_arrow_schema(pq.read_schema(file)) for file in paths}
    except (OSError, ValueError, datasets.exceptions.DatasetsError):
        return  # loading the splits says what is wrong
    names = {file: getattr(each.get(column), "names", None) for file, each in features.items()}
    for file in paths:
        if names[file] != names[paths[0]]:
            raise SettingError(
                f"{paths[0]} and {file} (`data.path`) number their classes in different ways in "
                f"`data.label_column`={column}. Write both with the same class names, or save the splits with "
                "save_to_disk, where each keeps its own."
            )


def _select(path: str, saved: "dict[str, datasets.Dataset]", setting: str, split: str) -> "datasets.Dataset":
    """Return a split of a saved data set, or the part of one that `split` describes as on the Hub."""
    import datasets

    try:
        sizes = {name: len(rows) for name, rows in saved.items()}
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (AssertionError, ValueError) as error:
        has = f"only {next(iter(saved))}" if len(saved) == 1 else first_few(saved)
        example = f"{next(iter(saved))}[:90%] and {next(iter(saved))}[90%:]"
        raise SettingError(
            f"`data.path`={path} has no split {split} (`data.{setting}`), but {has}. Parts are written {example}."
        ) from error
    chosen = [saved[part.splitname].select(range(part.from_, part.to)) for part in parts]
    try:
        rows = datasets.concatenate_datasets(chosen) if len(chosen) > 1 else chosen[0]
    except ValueError as error:
        raise SettingError(
            f"`data.{setting}`={split} joins splits of `data.path`={path} with different columns or class names; name "
            "one of them."
        ) from error
    if not len(rows):
        raise SettingError(f"`data.{setting}`={split} is a part of `data.path`={path} without a row.")
    return rows


def _class_names(rows: dict[str, "datasets.Dataset"], column: str) -> list[str]:
    for part in rows.values():
        if column not in part.column_names:
            raise _no_column("label", column, part)
    names = getattr(next(iter(rows.values())).features[column], "names", None)
    if names:
        return list(names)
    if any(getattr(part.features[column], "names", None) for part in rows.values()):
        raise SettingError(
            f"`data.label_column`={column} has class names in the validation split alone, so its numbers may mean "
            "other classes than those of the training split. Save both splits with class names."
        )
    values = [value for part in rows.values() for value in part.unique(column)]
    if all(isinstance(value, str) for value in values):
        return natural_order(set(values))
    if all(isinstance(value, int) and 0 <= value < MAX_CLASSES for value in values):
        return [str(label) for label in range(max(values) + 1)]
    raise SettingError(
        f"`data.label_column`={column} has to hold class numbers from 0 or class names, and not such as {values[:3]}."
    )


def _check_classes(sets: dict[str, HubImages], names: list[str], splits: dict[str, str]) -> list[str]:
    """Return notes on classes without images; raise if a class has validation images and no training images."""
    missing = {key: classes_without(images.labels, names) for key, images in sets.items()}
    untrained = [name for name in missing.get("train", []) if name not in missing["val"]]
    if untrained:
        raise SettingError(
            f"{len(untrained)} of {len(names)} classes are in {splits['val']} and not in {splits['train']}: "
            f"{first_few(untrained)}. The rows may be sorted by class; name splits that hold every class in "
            "`data.train_split` and `data.val_split`, or shuffle and save the data set before."
        )
    return [
        f"{len(missing[key])} of {len(names)} classes have no image in {split}: {first_few(missing[key])}"
        for key, split in splits.items()
        if missing[key]
    ]


def _labels(part: "datasets.Dataset", column: str, names: list[str], split: str) -> np.ndarray:
    values = part.select_columns([column])[:][column]
    own = getattr(part.features[column], "names", None) or names
    if own != names:  # the numbers of a split count its own list of names
        values = [own[value] if value is not None and 0 <= value < len(own) else value for value in values]
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers.get(value, -1) if isinstance(value, str) else value for value in values]
    for value, label in zip(values, labels, strict=True):
        if isinstance(value, str) and label < 0:
            raise SettingError(
                f"The split {split} has the class {value!r} in `data.label_column`={column}, which is none of the "
                f"{len(names)} classes of the training split."
            )
        if label is None or not 0 <= label < len(names):
            raise SettingError(
                f"The split {split} has the label {value!r} in `data.label_column`={column}, which is none of the "
                f"{len(names)} classes; a test split without labels cannot be used."
            )
    return np.array(labels, np.int64)


def _no_column(kind: str, column: str, part: "datasets.Dataset") -> SettingError:
    columns = ", ".join(part.column_names)
    return SettingError(f"`data.{kind}_column`={column} is not in the data set; it has {columns}.")
