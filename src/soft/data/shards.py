"""ImageNet, or any labelled images, in WebDataset shards: tar files that hold images beside their labels.

`soft.data.shard_writer` makes them from class folders; those of other tools are read as they are.
"""

import fnmatch
import glob
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from soft.data.classes import classes_without
from soft.data.decoding import open_image
from soft.data.image_files import left_out
from soft.data.image_folder import size_notes
from soft.data.image_sets import ImageSets
from soft.data.remote_shards import copy_shards, expand_ranges, find_copy, is_glob, without_secrets
from soft.data.shard_index import ShardIndex, index_shards
from soft.errors import SettingError, first_few
from soft.settings import check_text

# The file beside the shards of src/write_shards.py, with their classes and counts; UNFINISHED until all are there.
MANIFEST, UNFINISHED = "shards.json", "shards.unfinished.json"
SPLITS = ("train", "val")
MAX_CLASSES = 1_000_000


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard that src/write_shards.py writes."""
    return f"{split}-{number:06d}.tar"


class ShardImages(Dataset):
    """Images in shards, in the order of their keys; `images[index]` is (image that `open_image` opened, label from 0).

    A shard is opened for each image, as a folder's files are: nothing is shared between processes or kept open.
    """

    def __init__(self, shards: list[Path], index: ShardIndex):
        self.shards = [str(shard) for shard in shards]
        self.index = index

    @property
    def labels(self) -> np.ndarray:
        """Return the labels (N,)."""
        return self.index.label

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        entry = self.index
        shard, offset, size = self.shards[entry.shard[index]], int(entry.offset[index]), int(entry.size[index])
        try:
            with open(shard, "rb", buffering=0) as file:
                # The header before the content is read too, because it begins with the file's name.
                content = os.pread(file.fileno(), tarfile.BLOCKSIZE + size, offset - tarfile.BLOCKSIZE)
        except OSError as error:
            # Raised in a loader process, from which only the text arrives; it names no setting.
            raise SettingError(f"{shard} cannot be read any more: {error.strerror}.") from error
        name = content[: tarfile.LENGTH_NAME].partition(b"\0")[0].decode(errors="replace")
        return open_image(io.BytesIO(content[tarfile.BLOCKSIZE :]), f"{shard}/{name}"), int(entry.label[index])


def copy_remote_shards(
    root: Path | str,
    train_shards: str,
    val_shards: str,
    cache: str,
    train: bool = True,
    split: str | None = None,
    **_: object,
) -> None:
    """Copy the shards that `imagenet_shards` reads with these arguments, if `root` is a URL."""
    if not isinstance(root, Path):
        parts = _parts(train_shards, val_shards, train, split)
        copy_shards(root, [part.pattern for part in parts.values()], [MANIFEST, UNFINISHED], Path(cache).expanduser())


def imagenet_shards(
    root: Path | str,
    train_shards: str,
    val_shards: str,
    json_label: str,
    cache: str,
    expected: dict[str, int] | None = None,
    train: bool = True,
    split: str | None = None,
) -> ImageSets:
    """Read the shards by their indices, made where there are none; classes and images are counted, not assumed.

    Args:
        root: the folder of the shards, or its URL as fsspec takes it (https://..., s3://..., hf://...), from which
            `copy_remote_shards` has copied them to `cache`.
        train_shards, val_shards: file names relative to `root`, with wildcards or ranges such as {000000..000146}.
        json_label: the field of a sample's .json that holds its label, for samples without a .cls file.
        cache: folder for copies, and for the index of shards in a folder that cannot be written.
        expected: the full data set's numbers of `classes`, `train` and `val` images; others give a note.
        train: read the training shards too.
        split: what is evaluated: None, val or validation for `val_shards`, train for `train_shards`; test for
            test-*.tar, and likewise for any other name.

    Raises:
        SettingError: shards are missing, damaged or incomplete, or a sample has no label.
    """
    for name, value in dict(
        train_shards=train_shards, val_shards=val_shards, json_label=json_label, cache=cache
    ).items():
        check_text(f"`data.{name}`", value)
    parts = _parts(train_shards, val_shards, train, split)
    cache_folder = Path(cache).expanduser()
    folder = _local_folder(root, parts, cache_folder)
    manifest = _read_manifest(folder)
    notes, sets = [], {}
    for key, part in parts.items():
        shards = _find(folder, part)
        index = index_shards(shards, json_label, cache_folder)
        notes += left_out(index.left_out, f"samples of {part.pattern}")
        if not len(index):
            raise SettingError(f"The shards {part.pattern} in {folder} ({part.setting}) hold no images.")
        if manifest and part.written:
            notes += _check_complete(manifest[part.written], part, shards, len(index))
        sets[key] = ShardImages(shards, index)
    names = manifest["classes"] if manifest else _number_classes(sets)
    for key, images in sets.items():
        if (last := int(images.index.label.max())) >= len(names):
            raise SettingError(
                f"The shards {parts[key].pattern} in {folder} (`data.root`) hold label {last}, but {MANIFEST} there "
                f"names {len(names)} classes."
            )
    notes += _class_notes(sets, names)
    sizes = {"classes": len(names), "train": len(sets["train"]) if train else None}
    sizes["val"] = len(sets["val"]) if parts["val"].written == "val" else None
    return ImageSets(sets.get("train"), sets["val"], names, notes + size_notes(expected, sizes))


@dataclass(frozen=True)
class _Part:
    """Shards that are read together.

    Attributes:
        pattern: of their file names.
        setting: the argument that gives the pattern, for messages.
        written: the split that src/write_shards.py writes under these names; None if it writes no such split.
    """

    pattern: str
    setting: str
    written: str | None


def _parts(train_shards: str, val_shards: str, train: bool, split: str | None) -> dict[str, _Part]:
    """Return what to train on, if that is wanted, and what to evaluate on: `train` and `val`."""
    known = {
        "train": _Part(train_shards, f"`data.train_shards`={train_shards}", "train"),
        "val": _Part(val_shards, f"`data.val_shards`={val_shards}", "val"),
    }
    name = "val" if split in (None, "validation") else split
    evaluated = known.get(name) or _Part(f"{name}-*.tar", f"`data.split`={name}", None)
    return ({"train": known["train"]} if train else {}) | {"val": evaluated}


def _local_folder(root: Path | str, parts: dict[str, _Part], cache: Path) -> Path:
    if not isinstance(root, Path):
        copy = find_copy(root, [part.pattern for part in parts.values()], cache)
        if copy is None:
            raise SettingError(
                f"{without_secrets(root)} (`data.root`) is not in `data.cache`={cache} yet; a launch copies it there."
            )
        root = copy
    if not root.is_dir():
        raise SettingError(
            f"`data.root`={root} is not a folder. Set `data.root` to that of the shards (data=imagenet_wds takes it "
            "from $IMAGENET_SHARDS)."
        )
    if (root / UNFINISHED).exists():
        raise SettingError(
            f"`data.root`={root} is incomplete: its writing was interrupted. Run src/write_shards.py again."
        )
    return root


def _find(root: Path, part: _Part) -> list[Path]:
    names: list[str] = []
    for name in expand_ranges(part.pattern):
        found = sorted(glob.glob(name, root_dir=root)) if is_glob(name) else [name]
        found = [each for each in found if (root / each).is_file()]
        names += found
        if not found:
            there = sorted(path.name for path in root.glob("*.tar")) or ["no .tar file"]
            shown = there if len(there) <= 3 else [there[0], "...", there[-1]]
            raise SettingError(f"`data.root`={root} has no {name} ({part.setting}); it holds {', '.join(shown)}.")
    return [root / name for name in dict.fromkeys(names)]


def _read_manifest(root: Path) -> dict | None:
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        names = [str(name) for name in manifest["classes"]]
        counts = {split: {key: int(manifest[split][key]) for key in ("shards", "images")} for split in SPLITS}
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SettingError(f"{root / MANIFEST} (`data.root`) is damaged: {error!r}. Write the shards again.") from error
    return {"classes": names, **counts}


def _check_complete(written: dict[str, int], part: _Part, shards: list[Path], images: int) -> list[str]:
    """Return a note if only a part of what was written is asked for; raise if something that is asked for is gone."""
    asked = expand_ranges(part.pattern)
    names = [shard_name(part.written, number) for number in range(written["shards"])]
    found = {shard.name for shard in shards}
    missing = [name for name in names if name not in found and any(fnmatch.fnmatch(name, each) for each in asked)]
    if missing:
        raise SettingError(
            f"{shards[0].parent} (`data.root`) lacks {len(missing)} of the {len(names)} {part.written} shards that "
            f"were written, such as {missing[0]}."
        )
    if found != set(names):
        return [f"{len(found)} {part.written} shards are read, {len(names)} were written"]
    if images != written["images"]:
        raise SettingError(
            f"The {part.written} shards in {shards[0].parent} (`data.root`) hold {images} images, but "
            f"{written['images']} were written. Write them again."
        )
    return []


def _number_classes(sets: dict[str, ShardImages]) -> list[str]:
    classes = max(int(images.index.label.max()) for images in sets.values()) + 1
    if classes > MAX_CLASSES:
        raise SettingError(f"The shards' labels go up to {classes - 1}; class numbers are meant (`data.json_label`).")
    return [str(label) for label in range(classes)]


def _class_notes(sets: dict[str, ShardImages], names: list[str]) -> list[str]:
    """Return notes on classes without images. No error, because a few of many shards may be meant as a try."""
    notes = []
    for key, kind in (("train", "training"), ("val", "validation")):
        if key in sets and (missing := classes_without(sets[key].index.label, names)):
            notes.append(f"{len(missing)} of {len(names)} classes have no {kind} image: {first_few(missing)}")
    return notes
