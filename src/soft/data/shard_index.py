"""Where each image of a set of WebDataset shards lies: read from the tar headers once, and kept in a file.

A shard is a plain tar. Files whose names agree up to the first dot are one sample: 00000042.jpg is its image and
00000042.cls or 00000042.json its label. With the offsets at hand any image is one read away, so shards are shuffled,
split over ranks and resumed by the samplers that serve a folder of images. Hidden files are no samples.
"""

import hashlib
import json
import os
import re
import tarfile
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from soft.data.image_files import EXTENSIONS, count_extensions, is_hidden
from soft.errors import SettingError

# Part of the index's file name, so that a file of another layout is not read.
LAYOUT = 2
# The key of a sample (folders and all), and the extension, which starts at the first dot of the file's name.
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
IMAGES = tuple(extension.removeprefix(".") for extension in EXTENSIONS)


@dataclass(frozen=True)
class ShardIndex:
    """The images of some shards in the order of their keys, in whatever order and shards they were written.

    Attributes:
        shard: (N,) the number of the shard in the list that was indexed.
        offset, size: (N,) the image file's place in the shard, in bytes.
        label: (N,) from 0.
        other, others: (K,) extensions of files that are not read, in samples with a label and no image, and (K,) how
            many such samples there are.
    """

    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    other: np.ndarray
    others: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def left_out(self) -> dict[str, int]:
        """Count labelled samples without an image that is read, by the extension of what they have."""
        return dict(zip(self.other.tolist(), self.others.tolist(), strict=True))


def index_shards(shards: list[Path], json_label: str, cache: Path) -> ShardIndex:
    """Return the index of `shards`, from its file beside the first of them or in `cache`.

    The index is made if there is no such file, or if a shard's name, size or modification time has changed since.
    Processes that need it at the same time wait for the one that makes it.

    Args:
        json_label: the field of a sample's .json that holds its label, for samples without a .cls file.
        cache: used where the shards' folder cannot be written.

    Raises:
        SettingError: a shard is damaged, compressed, or a sample in it has no label; or neither folder can be written.
    """
    stats = [shard.stat() for shard in shards]
    sizes = np.array([stat.st_size for stat in stats])
    identity = [(shard.name, stat.st_size, stat.st_mtime_ns) for shard, stat in zip(shards, stats, strict=True)]
    digest = hashlib.sha256(json.dumps([LAYOUT, EXTENSIONS, json_label, identity]).encode()).hexdigest()
    files = [folder / f"index-{digest[:16]}.npz" for folder in (shards[0].parent, cache)]
    for file in files:
        if (index := _load(file, sizes)) is not None:
            return index
    for file in files:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.parent / ".index.lock"):
                if (index := _load(file, sizes)) is None:
                    index = _read_shards(shards, json_label)
                    _save(file, index)
                return index
        except (OSError, NotImplementedError) as error:  # NotImplementedError: no locks on this file system
            reason = error
    raise SettingError(
        f"The index of the shards in {files[0].parent} can be written neither there nor in `data.cache`={cache}: "
        f"{reason}. Set `data.cache` to a folder that can be written."
    )


def _load(file: Path, sizes: np.ndarray) -> ShardIndex | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            index = ShardIndex(*(arrays[name] for name in ShardIndex.__dataclass_fields__))
        fits = index.offset + index.size <= sizes[index.shard]
    except (OSError, EOFError, IndexError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None
    return index if fits.all() else None


def _save(file: Path, index: ShardIndex) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **vars(index))
        os.chmod(temporary, 0o644)  # mkstemp's is for its owner alone
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _read_shards(shards: list[Path], json_label: str) -> ShardIndex:
    keys, rows, left_out = [], [], Counter()
    progress = track(
        enumerate(shards),
        f"indexing {len(shards)} shards",
        len(shards),
        console=Console(stderr=True),
        transient=True,
    )
    for number, shard in progress:
        images, others = read_headers(shard, json_label)
        left_out += others
        for key, offset, size, label in images:
            keys.append(key)
            rows.append((number, offset, size, label))
    # Sorted by key over all shards, so that images train in the same order whether they were shuffled or not.
    order = sorted(range(len(keys)), key=keys.__getitem__)
    columns = np.array(rows, np.int64).reshape(-1, 4)[order].T
    extensions = sorted(left_out)
    return ShardIndex(
        *map(np.ascontiguousarray, columns),
        other=np.array(extensions, np.str_),
        others=np.array([left_out[extension] for extension in extensions], np.int64),
    )


def read_headers(shard: Path, json_label: str) -> tuple[list[tuple[str, int, int, int]], Counter[str]]:
    """Read what a shard holds.

    Returns:
        (key, offset in bytes, size in bytes, label) of each image, in the order of the shard; and how many labelled
        samples have no image that is read, by the extension of what they have.

    Raises:
        SettingError: as for `index_shards`.
    """
    images: dict[str, tuple[int, int]] = {}
    others: dict[str, str] = {}
    texts: dict[str, dict[str, bytes]] = {"cls": {}, "json": {}}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                match = MEMBER.fullmatch(member.name)
                if match is None or not member.isreg() or member.issparse() or is_hidden(member.name):
                    continue
                key, extension = match[1], match[2].lower()
                if extension in IMAGES:
                    images.setdefault(key, (member.offset_data, member.size))
                elif extension in texts:
                    texts[extension][key] = tar.extractfile(member).read()
                else:
                    others.setdefault(key, member.name)
            # tarfile takes a header that it cannot read for the end, where an empty block has to be.
            tar.fileobj.seek(tar.offset)
            end = tar.fileobj.read(tarfile.BLOCKSIZE)
    except (OSError, tarfile.TarError) as error:
        raise SettingError(
            f"{shard} (`data.root`) cannot be read as a tar file: {error}. Shards must be complete and not compressed."
        ) from error
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise SettingError(f"{shard} (`data.root`) is damaged at byte {tar.offset}, or cut off there. Replace it.")
    rows = [(key, *place, _label(key, texts, json_label, shard)) for key, place in images.items()]
    labels = {key: f"{key}.{kind}" for kind in texts for key in texts[kind]}
    return rows, count_extensions(others.get(key, name) for key, name in labels.items() if key not in images)


def _label(key: str, texts: dict[str, dict[str, bytes]], json_label: str, shard: Path) -> int:
    if key in texts["cls"]:
        name, value = f"{key}.cls", texts["cls"][key].strip()
    else:
        name, value = f"{key}.json, field {json_label} (`data.json_label`),", b""
        try:
            value = str(json.loads(texts["json"][key])[json_label]).encode()
        except (KeyError, TypeError, ValueError):
            raise SettingError(
                f"{shard} (`data.root`) has no label for {key}: neither {key}.cls nor {key}.json with a field "
                f"{json_label!r} (`data.json_label`)."
            ) from None
    if not re.fullmatch(rb"\d{1,9}", value):
        raise SettingError(f"{name} in {shard} (`data.root`) holds {value[:40]!r}, not a class number from 0.")
    return int(value)
