"""ImageNet, or any labelled images, in WebDataset shards: tar files that hold images beside their labels.

`soft.data.shard_writer` makes them from class folders; those of other tools are read as they are.
"""

import fnmatch
import glob
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from soft.data.decoding import open_image
from soft.data.image_folder import size_notes
from soft.data.image_sets import ImageSets
from soft.data.remote_shards import copy_shards, expand_ranges, find_copy, is_glob, without_secrets
from soft.data.shard_index import ShardIndex, index_shards
from soft.errors import SettingError
from soft.settings import check_text

# Beside shards that the tool wrote: their classes and counts; under the second name while it writes.
MANIFEST, UNFINISHED = "shards.json", "shards.unfinished.json"
SPLITS = ("train", "val")
MOST_CLASSES = 1_000_000


def shard_name(split: str, number: int) -> str:
    """File name of a shard that the tool writes."""
    return f"{split}-{number:06d}.tar"


class ShardImages(Dataset):
    """Images in shards; `images[index]` is (PIL image that `open_image` opened, label from 0), by the samples' keys.

    A shard is opened for each image, as a folder's files are: nothing is shared between processes or kept open.
    """

    def __init__(self, shards: list[Path], index: ShardIndex):
        self.shards = [str(shard) for shard in shards]
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        entry = self.index
        shard, offset, size = self.shards[entry.shard[index]], int(entry.offset[index]), int(entry.size[index])
        try:
            with open(shard, "rb", buffering=0) as file:
                # With the header before it, which begins with the name.
                content = os.pread(file.fileno(), tarfile.BLOCKSIZE + size, offset - tarfile.BLOCKSIZE)
        except OSError as error:
            raise SettingError(f"{shard} (data.root) cannot be read any more: {error.strerror}.") from error
        name = content[: tarfile.LENGTH_NAME].partition(b"\0")[0].decode(errors="replace")
        return open_image(io.BytesIO(content[tarfile.BLOCKSIZE :]), f"{shard}/{name}"), int(entry.label[index])


def copy_remote_shards(root: Path | str, train_shards: str, val_shards: str, cache: str, **_: object) -> None:
    """Copy the shards that `imagenet_shards` reads with these arguments, if `root` is a URL."""
    if not isinstance(root, Path):
        copy_shards(root, [train_shards, val_shards], [MANIFEST, UNFINISHED], Path(cache).expanduser())


def imagenet_shards(
    root: Path | str,
    train_shards: str,
    val_shards: str,
    json_label: str,
    cache: str,
    expected: dict[str, int] | None = None,
) -> ImageSets:
    """Read the shards' indices, and make them if they are new; classes and images are counted, not assumed.

    Args:
        root: the folder of the shards, or its URL as fsspec takes it (https://..., s3://..., hf://...), from which
            `copy_remote_shards` has copied them to `cache`.
        train_shards, val_shards: file names relative to `root`, with wildcards or ranges such as {000000..000146}.
        json_label: the field of a sample's .json that holds its label, for samples without a .cls file.
        cache: folder for copies, and for the index of shards in a folder that cannot be written.
        expected: the full data set's numbers of `classes`, `train` and `val` images; others give a note.

    Raises:
        SettingError: shards are missing, damaged or incomplete, or a sample has no label.
    """
    for name, value in dict(
        train_shards=train_shards, val_shards=val_shards, json_label=json_label, cache=cache
    ).items():
        check_text(f"data.{name}", value)
    cache_folder = Path(cache).expanduser()
    patterns = dict(zip(SPLITS, (train_shards, val_shards), strict=True))
    if not isinstance(root, Path):
        copy = find_copy(root, [train_shards, val_shards], cache_folder)
        if copy is None:
            raise SettingError(
                f"{without_secrets(root)} (data.root) is not in data.cache={cache} yet; a launch copies it to there."
            )
        root = copy
    if not root.is_dir():
        raise SettingError(
            f"data.root={root} is not a folder. Set data.root or $IMAGENET_SHARDS to that of the shards."
        )
    if (root / UNFINISHED).exists():
        raise SettingError(
            f"data.root={root} is incomplete: its writing was interrupted. Run src/write_shards.py again."
        )
    manifest = _read_manifest(root)
    notes, sets = [], {}
    for split, pattern in patterns.items():
        shards = _find(root, pattern, split)
        index = index_shards(shards, json_label, cache_folder)
        if not len(index):
            raise SettingError(f"The shards {pattern} in {root} (data.{split}_shards) hold no images.")
        if manifest:
            notes += _check_complete(manifest[split], split, pattern, shards, len(index))
        sets[split] = ShardImages(shards, index)
    labels = {split: np.unique(images.index.label) for split, images in sets.items()}
    names = manifest["classes"] if manifest else _number_classes(labels, notes)
    for split in SPLITS:
        if labels[split][-1] >= len(names):
            raise SettingError(
                f"The {split} shards in {root} (data.root) hold label {labels[split][-1]}, but {MANIFEST} there names "
                f"{len(names)} classes."
            )
    notes += size_notes(len(names), len(sets["train"]), len(sets["val"]), expected)
    return ImageSets(sets["train"], sets["val"], names, notes)


def _find(root: Path, pattern: str, split: str) -> list[Path]:
    names: list[str] = []
    for name in expand_ranges(pattern):
        found = sorted(glob.glob(name, root_dir=root)) if is_glob(name) else [name]
        names += [each for each in found if (root / each).is_file()]
        if not found or (not is_glob(name) and found[0] not in names):
            there = sorted(path.name for path in root.glob("*.tar")) or ["no .tar file"]
            shown = there if len(there) <= 3 else [there[0], "...", there[-1]]
            raise SettingError(
                f"data.root={root} has no {name} (data.{split}_shards={pattern}); it holds {', '.join(shown)}."
            )
    return [root / name for name in dict.fromkeys(names)]


def _read_manifest(root: Path) -> dict | None:
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        names = [str(name) for name in manifest["classes"]]
        counts = {split: {key: int(manifest[split][key]) for key in ("shards", "images")} for split in SPLITS}
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{root / MANIFEST} (data.root) is damaged: {error!r}. Write the shards again.") from error
    return {"classes": names, **counts}


def _check_complete(written: dict[str, int], split: str, pattern: str, shards: list[Path], images: int) -> list[str]:
    """A note if the pattern asks for a part of what was written; an error if something of what it asks for is gone."""
    asked = expand_ranges(pattern)
    names = [shard_name(split, number) for number in range(written["shards"])]
    found = {shard.name for shard in shards}
    missing = [name for name in names if name not in found and any(fnmatch.fnmatch(name, each) for each in asked)]
    if missing:
        raise SettingError(
            f"{shards[0].parent} (data.root) lacks {len(missing)} of the {len(names)} {split} shards that were "
            f"written, such as {missing[0]}."
        )
    if found != set(names):
        return [f"{len(found)} {split} shards are read, {len(names)} were written"]
    if images != written["images"]:
        raise SettingError(
            f"The {split} shards in {shards[0].parent} (data.root) hold {images} images, but {written['images']} were "
            "written. Write them again."
        )
    return []


def _number_classes(labels: dict[str, np.ndarray], notes: list[str]) -> list[str]:
    classes = int(max(labels[split][-1] for split in SPLITS)) + 1
    if classes > MOST_CLASSES:
        raise SettingError(f"The shards' labels go up to {classes - 1}; class numbers are meant (data.json_label).")
    empty = classes - len(labels["train"])
    if empty:
        first = int(np.setdiff1d(np.arange(classes), labels["train"])[0])
        notes.append(f"{empty} of the classes 0 to {classes - 1} have no training image, such as {first}")
    return [str(label) for label in range(classes)]
