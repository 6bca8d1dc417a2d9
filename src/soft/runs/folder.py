"""The folder of a run: which run it holds, whether that run is over, and which process has the folder now."""

import fcntl
import json
import logging
import os
import secrets
import shlex
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from soft.errors import SettingError
from soft.runs.identity import FORMAT, identity, same_run
from soft.runs.signals import slurm_job
from soft.writing import replace_text

log = logging.getLogger(__name__)

MARK = "run.json"  # says which run a folder holds
RESULT = "result.json"  # says that the run is over
METRICS = "metrics.csv"
_EARLY_DATA = {"dataset", "img_size", "batch_size"}  # all that early recipes of `soft.fit` say of the data


def read_mark(folder: Path) -> dict[str, object] | None:
    """Return the `id`, `launch`, `format`, `recipe` and `words` that a run wrote at its start (`mark_run`), or None."""
    try:
        return json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        return None


def mark_run(folder: Path, recipe: Mapping[str, object], words: Sequence[str] | None = None) -> None:
    """Write down which run `folder` holds; a run that goes on keeps its `id`.

    Args:
        recipe: the run's resolved configuration, in plain containers.
        words: the settings that were typed for it; None if it was not started by a command.
    """
    mark = read_mark(folder)
    run_id = mark["id"] if mark and holds(mark, recipe) else secrets.token_hex(4)
    mark = {"id": run_id, "format": FORMAT, "recipe": recipe, "launch": launch_name()}
    if words is not None:
        mark["words"] = list(words)
    replace_text(folder / MARK, json.dumps(mark, indent=2) + "\n")


def is_older(mark: Mapping[str, object]) -> bool:
    """Return whether a run was recorded when the configuration, or the recipe of `soft.fit`, had other settings."""
    return mark.get("format", 1) != FORMAT or set(mark["recipe"].get("data") or ()) == _EARLY_DATA


def holds(mark: Mapping[str, object], recipe: Mapping[str, object], varied: Iterable[str] = ()) -> bool:
    """Return whether a folder's mark is of the run that `recipe` describes (`soft.runs.identity`)."""
    varied = tuple(varied)
    return same_run(identity(recipe, varied), identity(mark["recipe"], varied), older=is_older(mark))


def launch_name() -> str | None:
    """Return the name that SLURM or torchrun gives this run, also after a restart by them; None without either."""
    if job := slurm_job():
        return f"SLURM job {job}"
    if name := os.environ.get("TORCHELASTIC_RUN_ID"):
        return f"torchrun {name}"
    return None


def run_folder(path: Path) -> Path | None:
    """Return the folder of the run to which `path`, a run's folder or a checkpoint in it, belongs, or None."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / MARK).is_file():
            return folder
    return None


def best_checkpoint(folder: Path) -> Path | None:
    """Return the best checkpoint of the run in `folder`, else the last one, else None."""
    paths = (folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    return next((path for path in paths if path.is_file()), None)


def find_unfinished(recipe: Mapping[str, object], folders: Iterable[Path], launch: str | None = None) -> Path | None:
    """Return the newest of `folders` that holds an unfinished run of `recipe`, started by `launch` if that is given."""
    found = []
    for folder in folders:
        mark = read_mark(folder)
        if mark and not (folder / RESULT).exists() and holds(mark, recipe) and launch in (None, mark["launch"]):
            found.append(folder)
    return max(found, key=lambda folder: (folder / MARK).stat().st_mtime, default=None)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keep every other process out of `folder` while the context lasts; the end of this process also frees the folder.

    Raises:
        SettingError: another process has the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            # This kind of lock belongs to this process alone: workers that outlive it do not keep it, and the kernel
            # drops it however the process ends.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            lock.seek(0)
            raise SettingError(
                f"{from_here(folder)} is in use by {lock.read().strip() or 'another process'}. Wait for that run or "
                "stop it; without resume=..., this command begins another run in a folder of its own."
            ) from error
        except OSError as error:
            log.warning("%s is on a file system without locks (%s): start no second run there.", folder, error)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def as_absolute(path: object) -> Path:
    """Return a typed path without ~ and `..`, in the form that Hydra gives the folder of a run."""
    return Path(os.path.abspath(Path(str(path)).expanduser()))


def from_here(path: Path) -> str:
    """Return the path as one would type it in the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def as_typed(key: str, path: Path) -> str:
    """Return `key=path` as a word that can be pasted into a shell in the current folder."""
    return shlex.quote(f"{key}={from_here(path)}")
