"""A run's folder: which run it holds, whether that one is over, and which process has it now."""

import fcntl
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from soft.errors import SettingError
from soft.training.signals import slurm_job
from soft.training.writing import replace_text

log = logging.getLogger(__name__)

MARK = "run.json"  # says which run a folder holds
RESULT = "result.json"  # and that it is over
METRICS = "metrics.csv"

# Settings that say where to write and what to go on from, and not what the run is. What is suggested counts where it is
# taken up; older versions kept it in groups, as `recipe`.
NOT_THE_RUN = ("resume", "output_dir", "preflight", "suggested")


def comparable(recipe: Mapping[str, object]) -> dict[str, object]:
    """What has to be equal in two configurations of one run: all but where it writes and what it goes on from."""
    folder = str(recipe.get("output_dir") or "")

    def elsewhere(value: object) -> object:
        if isinstance(value, Mapping):
            # A setting that is null is the same as one that an older version did not have.
            kept = {key: child for key, child in value.items() if child is not None and key != "recipe"}
            return {str(key): elsewhere(child) for key, child in kept.items()}
        if isinstance(value, (list, tuple)):
            return [elsewhere(child) for child in value]
        return value.removeprefix(folder) if isinstance(value, str) else value

    return elsewhere({key: value for key, value in recipe.items() if key not in NOT_THE_RUN})


def differences(ours: object, theirs: object, key: str = "") -> list[str]:
    """Dotted keys with both values, `schedule.epochs=4 (was 2)`, of two `comparable` configurations."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        names = dict.fromkeys([*ours, *theirs])
        return [d for name in names for d in differences(ours.get(name), theirs.get(name), f"{key}.{name}".lstrip("."))]
    return [] if ours == theirs else [f"{key}={_short(ours)} (was {_short(theirs)})"]


def read_mark(folder: Path) -> dict[str, object] | None:
    """What a run wrote into its folder when it started: `id`, `launch`, and the `recipe` as `comparable` gives it."""
    try:
        mark = json.loads((folder / MARK).read_text())
        return mark | {"recipe": comparable(mark["recipe"])}
    except (OSError, KeyError, TypeError, ValueError):
        return None


def mark_run(folder: Path, recipe: Mapping[str, object]) -> None:
    """Write down which run `folder` holds; one that goes on keeps its `id`."""
    mark = read_mark(folder)
    if mark is None or mark["recipe"] != recipe:
        mark = {"id": secrets.token_hex(4), "recipe": dict(recipe)}
    replace_text(folder / MARK, json.dumps({**mark, "launch": this_launch()}, indent=2) + "\n")


def this_launch() -> str | None:
    """What SLURM or torchrun calls this run, the same when they start it again; None without them."""
    if job := slurm_job():
        return f"SLURM job {job}"
    if name := os.environ.get("TORCHELASTIC_RUN_ID"):
        return f"torchrun {name}"
    return None


def run_folder(path: Path) -> Path | None:
    """The run's folder that a run's folder or a checkpoint in it stands for."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / MARK).is_file():
            return folder
    return None


def find_unfinished(recipe: Mapping[str, object], folders: Iterable[Path], launch: str | None = None) -> Path | None:
    """The newest of `folders` that holds an unfinished run of the configuration `recipe`, and of `launch` if given."""
    found = []
    for folder in folders:
        mark = read_mark(folder)
        if mark and not (folder / RESULT).exists() and mark["recipe"] == recipe and launch in (None, mark["launch"]):
            found.append(folder)
    return max(found, key=lambda folder: (folder / MARK).stat().st_mtime, default=None)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keep every other process out of `folder` within, and to the end of this process however that comes.

    Raises:
        SettingError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            # A lock of this process alone: workers that outlive it do not keep it, and the kernel drops it on any end.
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


def _short(value: object) -> str:
    return "nothing" if value is None else str(value)


def from_here(path: Path) -> str:
    """The path as one would type it from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
