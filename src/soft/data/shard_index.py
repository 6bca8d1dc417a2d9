"""Where each image of a set of WebDataset shards lies: read from the tar headers once, and kept in a file.

A shard is a plain tar. Files whose names agree up to the first dot are one sample: 00000042.jpg is its image and
00000042.cls or 00000042.json its label. With the offsets at hand any image is one read away, so shards are shuffled,
split over ranks and resumed by the samplers that serve a folder of images.
"""

import hashlib
import json
import os
import re
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import track
from torchvision.datasets.folder import IMG_EXTENSIONS

from soft.errors import SettingError

# Goes into the name of the file: another layout of the file is another file.
LAYOUT = 1
# The key of a sample (folders and all), and the extension, which starts at the first dot of the file's name.
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
IMAGES = tuple(extension.removeprefix(".") for extension in IMG_EXTENSIONS)


@dataclass(frozen=True)
class ShardIndex:
    """The images of some shards in the order of their keys, in whatever order and shards they were written.

    Attributes:
        shard: (N,) the number of the shard in the list that was indexed.
        offset, size: (N,) the image file's place in the shard, in bytes.
        label: (N,) from 0.
    """

    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def index_shards(shards: list[Path], json_label: str, cache: Path) -> ShardIndex:
    """The index of `shards`: from its file beside the first of them, or in `cache`; made there if it is new.

    It is made anew when a shard's name, size or modification time has changed. Processes that need it at the same time
    wait for the one that makes it.

    Args:
        json_label: the field of a sample's .json that holds its label, for samples without a .cls file.
        cache: used where the shards' folder cannot be written.

    Raises:
        SettingError: a shard is damaged, compressed, or a sample in it has no label; or neither folder can be written.
    """
    stats = [shard.stat() for shard in shards]
    sizes = np.array([stat.st_size for stat in stats])
    identity = [(shard.name, stat.st_size, stat.st_mtime_ns) for shard, stat in zip(shards, stats, strict=True)]
    digest = hashlib.sha256(json.dumps([LAYOUT, json_label, identity]).encode()).hexdigest()
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
        except (OSError, NotImplementedError) as error:  # the second: no locks on this file system
            reason = error
    raise SettingError(
        f"The index of the shards in {files[0].parent} can be written neither there nor in data.cache={cache}: "
        f"{reason}. Set data.cache to a folder that can be written."
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
    keys, rows = [], []
    progress = track(
        enumerate(shards),
        f"indexing {len(shards)} shards",
        len(shards),
        console=Console(stderr=True),
        transient=True,
    )
    for number, shard in progress:
        for key, offset, size, label in read_headers(shard, json_label):
            keys.append(key)
            rows.append((number, offset, size, label))
    # By key, whatever the shards: then images that were shuffled into them train as those that were not.
    order = sorted(range(len(keys)), key=keys.__getitem__)
    columns = np.array(rows, np.int64).reshape(-1, 4)[order].T
    return ShardIndex(*map(np.ascontiguousarray, columns))


def read_headers(shard: Path, json_label: str) -> list[tuple[str, int, int, int]]:
    """(key, offset in bytes, size in bytes, label) of each image in a shard, in the order of the shard.

    Raises:
        SettingError: as for `index_shards`.
    """
    images: dict[str, tuple[int, int]] = {}
    texts: dict[str, dict[str, bytes]] = {"cls": {}, "json": {}}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                match = MEMBER.fullmatch(member.name)
                if match is None or not member.isreg() or member.issparse():
                    continue
                key, extension = match[1], match[2].lower()
                if extension in IMAGES:
                    images.setdefault(key, (member.offset_data, member.size))
                elif extension in texts:
                    texts[extension][key] = tar.extractfile(member).read()
            # tarfile takes a header that it cannot read for the end.
            tar.fileobj.seek(tar.offset)
            end = tar.fileobj.read(tarfile.BLOCKSIZE)
    except (OSError, tarfile.TarError) as error:
        raise SettingError(
            f"{shard} (data.root) cannot be read as a tar file: {error}. Shards must be complete and not compressed."
        ) from error
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise SettingError(f"{shard} (data.root) is damaged at byte {tar.offset}, or cut off there. Replace it.")
    return [(key, *place, _label(key, texts, json_label, shard)) for key, place in images.items()]


def _label(key: str, texts: dict[str, dict[str, bytes]], json_label: str, shard: Path) -> int:
    if key in texts["cls"]:
        name, value = f"{key}.cls", texts["cls"][key].strip()
    else:
        name, value = f"{key}.json, field {json_label} (data.json_label),", b""
        try:
            value = str(json.loads(texts["json"][key])[json_label]).encode()
        except (KeyError, TypeError, ValueError):
            raise SettingError(
                f"{shard} (data.root) has no label for {key}: neither {key}.cls nor {key}.json with a field "
                f"{json_label!r} (data.json_label)."
            ) from None
    if not re.fullmatch(rb"\d{1,9}", value):
        raise SettingError(f"{name} in {shard} (data.root) holds {value[:40]!r}, not a class number from 0.")
    return int(value)
