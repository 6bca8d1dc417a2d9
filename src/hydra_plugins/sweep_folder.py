"""The folder of a sweep: which of its jobs are finished, and where the others go."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from entrypoint import SOURCES, ConfigError
from jobs import objective
from masking import masked
from names import inside

RESULT = "result.json"
# Where a run is written, what watches it and what its report quotes do not change what it computes.
_OUTSIDE = ("output_dir", "name", "resume", "preflight", "logger", "callbacks", "study", "suggested")


def recipe_key(recipe: Mapping[str, object], varied: Sequence[str] = ()) -> str:
    """What two runs share exactly when they compute the same; from a resolved configuration.

    `varied` are dotted keys of callbacks or loggers over which the user sweeps nevertheless.
    """
    inside = _settings({key: value for key, value in recipe.items() if key not in _OUTSIDE})
    return json.dumps([inside, [_select(recipe, key) for key in varied]], sort_keys=True)


def _settings(value: object) -> object:
    """Leave out what older versions did not have, or had besides: null values, and suggestions as `recipe`."""
    if not isinstance(value, Mapping):
        return value
    return {key: _settings(child) for key, child in value.items() if child is not None and key != "recipe"}


def _select(recipe: object, key: str) -> object:
    for part in key.split("."):
        recipe = recipe.get(part) if isinstance(recipe, Mapping) else None
    return recipe


def _varied(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The dotted keys of overrides that belong to `_OUTSIDE` and differ between jobs, but for the number of a trial."""
    everywhere = set.intersection(*map(set, jobs)) if jobs else set()
    keys = {word.lstrip("+").partition("=")[0] for job in jobs for word in job if word not in everywhere}
    keys.discard("callbacks.pruning.trial")
    return sorted(key for key in keys if "." in key and key.partition(".")[0] in _OUTSIDE)


@dataclass
class SweepFolder:
    """Runs of a sweep are folders below `path`.

    A run is finished when its result.json is there, and is that of a job when its config.yaml says the same.
    """

    path: Path
    varied: Sequence[str] = ()
    _runs: dict[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        configs = [file for file in self.path.rglob("config.yaml") if (file.parent / ".hydra").is_dir()]
        configs.sort(key=lambda file: (file.parent / RESULT).is_file())
        self._runs = {
            recipe_key(OmegaConf.to_container(OmegaConf.load(file)), self.varied): file.parent for file in configs
        }

    def finished(self, key: str) -> Path | None:
        """The folder of the finished run with this `recipe_key`."""
        folder = self._runs.get(key)
        return folder if folder is not None and (folder / RESULT).is_file() else None

    def place(self, key: str, name: str) -> tuple[Path, Path | None]:
        """Folder for a run that is to start, and the checkpoint of an earlier start from which it can go on.

        That is the folder of the earlier start, else `name`; where another run has that, the next number that is free.
        Without a checkpoint an earlier start leaves nothing behind.
        """
        folder = self._runs.get(key)
        if folder is None:
            folder, number = self.path / name, int(name) if name.isdigit() else 0
            while folder in self._runs.values():
                number += 1
                folder = self.path / str(number)
            self._runs[key] = folder
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if checkpoint.is_file():
            return folder, checkpoint
        if (folder / ".hydra").is_dir():
            shutil.rmtree(folder)
        return folder, None


def run_missing(
    launcher: Launcher, context: HydraContext, config: DictConfig, jobs: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Launches the jobs, given by their overrides, that no earlier start has finished; a result for every job."""
    sweep = Path(config.hydra.sweep.dir).absolute()
    varied = _varied(jobs)
    runs, finished, missing, keys = SweepFolder(sweep, varied), {}, {}, []
    for number, overrides in enumerate(jobs):
        job = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
        key = recipe_key(_resolve(job, varied), varied)
        keys.append(key)
        if key in finished or key in missing:
            continue  # jobs that come to the same are run once
        if folder := runs.finished(key):
            finished[key] = JobReturn(
                list(filter_overrides(overrides)), job, working_dir=str(folder), status=JobStatus.COMPLETED
            )
            finished[key].return_value = objective(folder)
            continue
        folder, checkpoint = runs.place(key, inside(job.hydra.sweep.subdir, "hydra.sweep.subdir"))
        goes_on = [f'resume="{checkpoint}"'] if checkpoint else []
        missing[key] = [*overrides, *goes_on, f'hydra.sweep.subdir="{folder.relative_to(sweep)}"']
    if finished:
        print(f"{len(finished)} of {len(jobs)} runs are finished already, in {sweep}", flush=True)
    if missing:
        launched = launcher.launch(list(missing.values()), initial_job_idx=0)
        finished |= zip(missing, launched, strict=True)
    return [finished[key] for key in keys]


def _resolve(job: DictConfig, varied: Sequence[str]) -> dict[str, object]:
    """The configuration of a job that has not started, like the config.yaml that it will write."""
    # What is suggested has no place in the result, but is referred to.
    parts = [name for name in job if name == "suggested" or name not in ("hydra", *_OUTSIDE)]
    recipe = OmegaConf.masked_copy(job, parts)
    for key in varied:
        OmegaConf.update(recipe, key, OmegaConf.select(job, key), force_add=True)
    return masked(OmegaConf.to_container(recipe, resolve=True))


@contextmanager
def lock_sweep(config: DictConfig) -> Iterator[Path]:
    """The sweep's folder, for one process at a time.

    Raises:
        ConfigError: another sweep is running there.
    """
    sweep = Path(config.hydra.sweep.dir).absolute()
    sweep.mkdir(parents=True, exist_ok=True)
    handle = os.open(sweep, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"A sweep is running in {sweep}; wait for its end, or choose another folder with hydra.sweep.dir."
        ) from None
    else:
        yield sweep
    finally:
        os.close(handle)


def finish(sweep: Path, results: Sequence[JobReturn]) -> None:
    """Report, and list what failed; raises the first of the failures."""
    if any(sweep.rglob(RESULT)):
        print(flush=True)
        subprocess.run([sys.executable, str(SOURCES / "report.py"), f'sweep="{sweep}"'], check=False)
    failed = [result for result in results if result.status == JobStatus.FAILED]
    if results:
        print(f"\n{len(results) - len(failed)} of {len(results)} runs finished, in {sweep}", flush=True)
    for result in failed:
        print(f"failed: {result.working_dir} {' '.join(result.overrides)}", file=sys.stderr)
    for result in failed:
        _ = result.return_value  # raises
