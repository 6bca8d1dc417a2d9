"""Writes the images of class folders into WebDataset shards: the files as they are, and the same bytes every time."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from torchvision.datasets import ImageFolder

from soft.data.image_folder import imagenet
from soft.data.shard_index import index_shards
from soft.data.shards import MANIFEST, SPLITS, UNFINISHED, shard_name
from soft.errors import SettingError
from soft.settings import check_whole
from soft.writing import replace_text

MEBIBYTE = 2**20
# Our samples have .cls files and need no such field, but the index is named after this setting.
JSON_LABEL = "label"
JPEG = (".jpeg", ".jpe", ".jfif")  # WebDataset's tools know a JPEG by .jpg


@dataclass(frozen=True)
class Shard:
    """One tar file to be written.

    Attributes:
        split: train or val.
        samples: (number of the image in its folder's order, path, label, size in bytes).
        size: of the tar file, in bytes.
    """

    split: str
    path: Path
    samples: list[tuple[int, str, int, int]]
    size: int


@dataclass(frozen=True)
class Plan:
    """What goes where.

    Attributes:
        text: the manifest beside the shards.
        notes: phrases on what is left out.
    """

    shards: list[Shard]
    text: str
    notes: list[str]

    @property
    def size(self) -> int:
        """Return the size of all shards together, in bytes."""
        return sum(shard.size for shard in self.shards)


def plan_shards(root: Path, out: Path, shard_size: int, shuffle: bool, seed: int) -> Plan:
    """Lay the images below `root` out over shards, without reading them.

    A sample's key is the number of its image in the order of the folders. Readers that sort by it, as ours does, see
    the same order whether the samples are shuffled or not.

    Args:
        root: holds train/ and val/ with one folder per class.
        shard_size: the largest size of a shard in MiB; a larger image has a shard of its own.
        shuffle: put the samples into the shards in a random order, for tools that read them from end to end.
        seed: of that order.
    """
    check_whole("shard_size", shard_size, low=1)
    check_whole("seed", seed, low=0)
    sets = imagenet(root)
    shards, manifest = [], {"classes": sets.class_names}
    source = hashlib.sha256()
    for stream, split in enumerate(SPLITS):
        images: ImageFolder = getattr(sets, split)
        try:
            sizes = [os.path.getsize(path) for path, _ in images.samples]
        except OSError as error:
            raise SettingError(f"{error.filename} (`data.root`) cannot be read: {error.strerror}.") from error
        for (path, _), size in zip(images.samples, sizes, strict=True):
            source.update(f"{split}/{os.path.relpath(path, images.root)} {size}\n".encode(errors="surrogateescape"))
        order = range(len(sizes))
        if shuffle:
            order = np.random.default_rng((seed, stream)).permutation(len(sizes)).tolist()
        samples = [(number, *images.samples[number], sizes[number]) for number in order]
        parts = list(_cut(samples, shard_size * MEBIBYTE))
        shards += [Shard(split, out / shard_name(split, number), *part) for number, part in enumerate(parts)]
        manifest[split] = {"images": len(samples), "shards": len(parts)}
    manifest |= {"shard_size": shard_size, "shuffle": shuffle, "seed": seed if shuffle else None}
    return Plan(shards, json.dumps({**manifest, "source": source.hexdigest()}, indent=1) + "\n", sets.notes)


def _cut(samples: list[tuple[int, str, int, int]], max_size: int) -> Iterator[tuple[list, int]]:
    """Yield runs of samples whose tar files have at most `max_size` bytes, and those files' sizes."""
    part, blocks = [], 0
    for sample in samples:
        # The image and its label have a header each and come in whole blocks.
        needed = 3 + -(-sample[3] // tarfile.BLOCKSIZE)
        if part and _tar_size(blocks + needed) > max_size:
            yield part, _tar_size(blocks)
            part, blocks = [], 0
        part.append(sample)
        blocks += needed
    yield part, _tar_size(blocks)


def _tar_size(blocks: int) -> int:
    # A tar file ends with two empty blocks, and is padded to whole records.
    return -(-(blocks + 2) * tarfile.BLOCKSIZE // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def write_shards(plan: Plan, out: Path, cache: Path, written: Callable[[int], None]) -> None:
    """Write the shards of `plan` that are not there yet, then their manifest and their index.

    A shard gets its name when it is whole: what is interrupted at any moment goes on from the last whole shard.

    Args:
        cache: folder for the index if `out` cannot hold it.
        written: called with numbers of bytes that add up to those of all shards.

    Raises:
        SettingError: `out` holds other shards or is in use, the disk is full, or an image has changed meanwhile.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".write.lock", timeout=0):
            missing = [shard for shard in plan.shards if not _is_whole(shard)]
            needed = sum(shard.size for shard in missing)
            _check_room(plan, out, needed)
            written(plan.size - needed)
            if missing or not (out / MANIFEST).exists():
                replace_text(out / UNFINISHED, plan.text)
                for shard in missing:
                    _write(shard, written)
                replace_text(out / MANIFEST, plan.text)
            (out / UNFINISHED).unlink(missing_ok=True)
        for split in SPLITS:
            index_shards([shard.path for shard in plan.shards if shard.split == split], JSON_LABEL, cache)
    except Timeout:
        raise SettingError(f"Another process is writing to out={out}; wait for it, or choose another folder.") from None
    except OSError as error:
        raise SettingError(f"Shards cannot be written to out={out}: {error}.") from error


def _check_room(plan: Plan, out: Path, needed: int) -> None:
    before = next((file for file in (out / MANIFEST, out / UNFINISHED) if file.exists()), None)
    if before is None and any(out.glob("*.tar")):
        raise SettingError(f"out={out} holds .tar files that this tool did not write; choose another folder.")
    if before is not None and before.read_text() != plan.text:
        raise SettingError(
            f"out={out} holds shards of other images, or written with other settings ({before.name} there says which). "
            "Choose another folder, or delete it."
        )
    free = shutil.disk_usage(out).free
    if needed > free:
        raise SettingError(
            f"out={out} needs {needed / 2**30:.2f} GiB and has {free / 2**30:.2f} GiB free; choose a larger disk."
        )


def _is_whole(shard: Shard) -> bool:
    return shard.path.is_file() and shard.path.stat().st_size == shard.size


def _write(shard: Shard, written: Callable[[int], None]) -> None:
    temporary = shard.path.with_name(f"{shard.path.name}.partial")
    with temporary.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, path, label, size in shard.samples:
            content = Path(path).read_bytes()
            if len(content) != size:
                raise SettingError(f"{path} (`data.root`) has changed while shards were written. Start again.")
            extension = Path(path).suffix.lower()
            extension = ".jpg" if extension in JPEG else extension
            _add(tar, f"{number:08d}{extension}", content)
            _add(tar, f"{number:08d}.cls", str(label).encode())
            written(size)
        # What is left are the tar file's own blocks.
        written(shard.size - sum(sample[3] for sample in shard.samples))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, shard.path)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # TarInfo's defaults hold neither time nor user, so that the same images are always the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
