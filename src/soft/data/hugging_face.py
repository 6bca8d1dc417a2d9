"""Image classification sets of the Hugging Face `datasets` library, from the Hub or from a folder."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from soft.data.decoding import open_image
from soft.data.image_sets import ImageSets
from soft.errors import SettingError
from soft.settings import check_text

if TYPE_CHECKING:
    import datasets

MOST_CLASSES = 1_000_000


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
) -> ImageSets:
    """Read a data set that is on this machine, or fetch it from the Hub into the library's own cache.

    Args:
        path: a name on the Hub; or a folder that `save_to_disk` wrote, or of class folders or parquet files.
        subset: the data set's configuration, where it has several.
        revision: branch, tag or commit on the Hub.
        train_split, val_split: splits, or parts of one such as train[:90%].
        image_column: of images, or of their bytes or paths.
        label_column: of class numbers from 0, or of class names.

    Raises:
        SettingError: `datasets` is not installed, or there is no such data set, split or column.
    """
    try:
        import datasets
    except ImportError as error:
        raise SettingError("data=hf needs the package datasets: pip install -e '.[hf]'.") from error
    for name, value in dict(
        path=path, train_split=train_split, val_split=val_split, image_column=image_column, label_column=label_column
    ).items():
        check_text(f"data.{name}", value)
    path = str(Path(path).expanduser())
    splits = {"train": train_split, "val": val_split}
    if (Path(path) / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(path)
        for key, split in splits.items():
            if split not in saved:
                raise SettingError(f"{path} has no split {split} (data.{key}_split), but {', '.join(saved)}.")
        rows = {key: saved[split] for key, split in splits.items()}
    else:
        rows = {key: _load(path, subset, revision, key, split) for key, split in splits.items()}
    names = _class_names(rows, label_column)
    sets = {}
    for key, part in rows.items():
        labels = _labels(part, label_column, names, splits[key])
        if image_column not in part.column_names:
            raise _no_column("image", image_column, part)
        try:
            images = part.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
        except (NotImplementedError, TypeError, ValueError) as error:  # pyarrow has all of them
            raise SettingError(f"data.image_column={image_column} holds no images: {error}.") from error
        sets[key] = HubImages(images, image_column, labels)
    return ImageSets(sets["train"], sets["val"], names)


def _load(path: str, subset: str | None, revision: str | None, key: str, split: str) -> "datasets.Dataset":
    import datasets

    try:
        return datasets.load_dataset(path, subset, split=split, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise SettingError(
            f"data.path={path}, data.{key}_split={split} cannot be loaded: {' '.join(str(error).split())}"
        ) from error


def _class_names(rows: dict[str, "datasets.Dataset"], column: str) -> list[str]:
    for part in rows.values():
        if column not in part.column_names:
            raise _no_column("label", column, part)
    names = getattr(rows["train"].features[column], "names", None)
    if names:
        return list(names)
    values = [value for part in rows.values() for value in part.unique(column)]
    if all(isinstance(value, str) for value in values):
        return sorted(set(values))
    if all(isinstance(value, int) and 0 <= value < MOST_CLASSES for value in values):
        return [str(label) for label in range(max(values) + 1)]
    raise SettingError(
        f"data.label_column={column} has to hold class numbers from 0 or class names, and not such as {values[:3]}."
    )


def _labels(part: "datasets.Dataset", column: str, names: list[str], split: str) -> np.ndarray:
    values = part.select_columns([column])[:][column]
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers.get(value, -1) if isinstance(value, str) else value for value in values]
    for value, label in zip(values, labels, strict=True):
        if label is None or not 0 <= label < len(names):
            raise SettingError(
                f"The split {split} has the label {value!r} in data.label_column={column}, which is none of the "
                f"{len(names)} classes; a test split without labels cannot be used."
            )
    return np.array(labels, np.int64)


def _no_column(kind: str, column: str, part: "datasets.Dataset") -> SettingError:
    return SettingError(f"data.{kind}_column={column} is not in the data set; it has {', '.join(part.column_names)}.")
