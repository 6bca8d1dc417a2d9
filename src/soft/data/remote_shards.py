"""Shards that lie elsewhere: found through fsspec, and copied to a local folder before training begins.

Training reads images in an order of its own, so it would ask for every shard within the first steps. A copy is
therefore complete before the first step; afterwards a run needs no network.
"""

import hashlib
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import fsspec
from filelock import FileLock
from rich.console import Console

from soft.data.image_files import is_hidden
from soft.errors import SettingError
from soft.writing import replace_text

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
LISTING = "copied.json"  # lists the files in its folder that are whole
CONNECTIONS = 8
ATTEMPTS = 3
PAUSE = 2.0  # seconds between two attempts


def expand_ranges(pattern: str) -> list[str]:
    """Return the names of a pattern: `a-{08..10}.tar` is a-08.tar, a-09.tar, a-10.tar.

    Several ranges give every combination.
    """
    match = RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    head, rest = pattern[: match.start()], expand_ranges(pattern[match.end() :])
    return [f"{head}{number}{tail}" for number in numbers for tail in rest]


def is_glob(pattern: str) -> bool:
    """Return whether a pattern has to be compared with the names that are there."""
    return any(character in pattern for character in "*?[")


def find_copy(url: str, patterns: list[str], cache: Path) -> Path | None:
    """Return the local folder of what `copy_shards` copied with these arguments; None where something is missing."""
    folder = _folder(url, cache)
    return folder if _is_complete(folder, patterns) else None


def copy_shards(url: str, patterns: list[str], optional: list[str], cache: Path) -> None:
    """Copy what `patterns` and `optional` name below `url`, unless it is there already.

    Processes on a machine that need the copy at the same time wait for the one that makes it. Files that a killed
    process had finished are kept. A copy is never compared with its source again: delete the folder to fetch anew.

    Args:
        url: a folder as fsspec names it, such as s3://bucket/imagenet.
        patterns: file names relative to `url`, with ranges or wildcards.
        optional: file names that may be missing.
        cache: the copy is a folder in here.

    Raises:
        SettingError: the files cannot be listed or read, or do not fit on the disk.
    """
    folder = _folder(url, cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".copy.lock"):
            if _is_complete(folder, patterns):
                return
            sizes = _copy(url, patterns, optional, folder)
            before = _read_listing(folder)
            patterns = list(dict.fromkeys([*before["patterns"], *patterns]))
            # The listing is written last and in one step, because it says that the files above are all there.
            replace_text(folder / LISTING, json.dumps({"patterns": patterns, "bytes": before["bytes"] | sizes}))
    except SettingError:
        raise
    except Exception as error:  # every kind of storage has errors of its own
        raise SettingError(
            f"{without_secrets(url)} (`data.root`) cannot be copied to `data.cache`={cache}: {_first_line(error, url)}"
        ) from error


def without_secrets(url: str) -> str:
    """Return `url` without a user, a password or a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _first_line(error: Exception, url: str) -> str:
    """Return the first line of a storage's message, without the secrets of the URL, which it may repeat."""
    parts = urlsplit(url)
    line = (str(error).splitlines() or [type(error).__name__])[0].replace(url, without_secrets(url))
    for secret in filter(None, (parts.password, parts.query)):
        line = line.replace(secret, "...")
    return line


def _folder(url: str, cache: Path) -> Path:
    shown = without_secrets(url)
    return cache / f"{PurePosixPath(shown).name}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}"


def _read_listing(folder: Path) -> dict[str, object]:
    """Return the patterns whose files are all in `folder`, and the files' sizes in bytes by name."""
    try:
        listing = json.loads((folder / LISTING).read_text())
        if all((folder / name).stat().st_size == size for name, size in listing["bytes"].items()):
            return {"patterns": list(listing["patterns"]), "bytes": listing["bytes"]}
    except (AttributeError, OSError, KeyError, TypeError, ValueError):
        pass
    return {"patterns": [], "bytes": {}}


def _is_complete(folder: Path, patterns: list[str]) -> bool:
    return set(patterns) <= set(_read_listing(folder)["patterns"])


def _copy(url: str, patterns: list[str], optional: list[str], folder: Path) -> dict[str, int]:
    """Copy what is missing, and return the sizes in bytes by file name."""
    files, top = fsspec.core.url_to_fs(url)
    top, shown = top.rstrip("/"), without_secrets(url)
    sources = _list(files, top, shown, patterns) + [
        f"{top}/{name}" for name in optional if files.exists(f"{top}/{name}")
    ]
    targets = {source: _inside(folder, source.removeprefix(f"{top}/")) for source in sources}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        sizes = dict(zip(targets, pool.map(files.size, targets), strict=True))
        missing = [source for source in targets if not _has(targets[source], sizes[source])]
        needed = sum(sizes[source] or 0 for source in missing)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise SettingError(
                f"{shown} (`data.root`) needs {needed / 2**30:.1f} GiB in `data.cache`={folder.parent}, where "
                f"{free / 2**30:.1f} are free. Set `data.cache` to a folder on a larger disk."
            )
        console = Console(stderr=True)
        console.print(f"copying {len(missing)} files, {needed / 2**30:.2f} GiB, to {folder}", soft_wrap=True)
        tasks = pool.map(lambda source: _fetch(files, source, targets[source], sizes[source]), missing)
        for done, _ in enumerate(tasks, start=1):
            if done % 50 == 0:
                console.print(f"{done} of {len(missing)} copied")
    return {str(target.relative_to(folder)): target.stat().st_size for target in targets.values()}


def _list(files: fsspec.AbstractFileSystem, top: str, shown: str, patterns: list[str]) -> list[str]:
    sources = []
    for pattern in patterns:
        for name in expand_ranges(pattern):
            found = files.glob(f"{top}/{name}") if is_glob(name) else [f"{top}/{name}"]
            found = [path for path in found if not is_hidden(PurePosixPath(path).name)]
            if not found:
                raise SettingError(
                    f"{shown} (`data.root`) has no files {pattern}. See `data.train_shards` and `data.val_shards`."
                )
            sources += sorted(found)
    return list(dict.fromkeys(sources))


def _inside(folder: Path, name: str) -> Path:
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise SettingError(f"The name {name!r} (`data.root`) would be written outside {folder}.")
    return target


def _has(target: Path, size: int | None) -> bool:
    return target.is_file() and target.stat().st_size == size


def _fetch(files: fsspec.AbstractFileSystem, source: str, target: Path, size: int | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.partial")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            files.get_file(source, str(temporary))
            got = temporary.stat().st_size
            if size is not None and got != size:
                raise OSError(f"{source} has {size} bytes, and {got} arrived")
            break
        except Exception:
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE)
    os.replace(temporary, target)
