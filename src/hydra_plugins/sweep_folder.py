"""Finds out which jobs of a sweep are finished in its folder, and chooses the folders of the others."""

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

from cli.command_line import ConfigError, quote
from cli.places import SOURCES
from cli.safe_names import inside
from cli.secrets import masked
from cli.sweep_jobs import objective


def _varied(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the keys and groups of overrides that differ between jobs and tell their runs apart.

    Three kinds of overrides do not tell runs apart: the trial number of a search, a run's name, and the choice of
    loggers or callbacks as a whole.
    """
    from soft.runs.identity import RECORDING

    everywhere = set.intersection(*map(set, jobs)) if jobs else set()
    keys = {word.lstrip("+~").partition("=")[0] for job in jobs for word in job if word not in everywhere}
    keys = {key.replace("/", ".") for key in keys - {"callbacks.pruning.trial"}}
    return sorted(key for key in keys if "." in key or key not in RECORDING)


@dataclass
class SweepFolder:
    """The runs in the folder of a sweep.

    A run is finished when its folder holds a result.json. A run belongs to a job when both compute the same, by the
    rules of `soft.runs.identity`; settings that the sweep varies are always compared.

    Args:
        path: the sweep's folder.
        varied: keys of the settings that the sweep varies.
    """

    path: Path
    varied: Sequence[str] = ()
    _runs: list[tuple[dict[str, object], bool, Path]] = field(init=False)

    def __post_init__(self) -> None:
        # Imported here, because Hydra loads this module for every command, and the library loads PyTorch.
        from soft.runs.folder import RESULT

        configs = [file for file in self.path.rglob("config.yaml") if (file.parent / ".hydra").is_dir()]
        configs.sort(key=lambda file: (file.parent / RESULT).is_file(), reverse=True)
        self._runs = [self._read(file) for file in configs]

    def _read(self, file: Path) -> tuple[dict[str, object], bool, Path]:
        """Return the identity of the run with this config.yaml, whether an older version wrote it, and its folder."""
        from soft.runs.folder import is_older, read_mark
        from soft.runs.identity import identity

        recipe, mark = OmegaConf.to_container(OmegaConf.load(file)), read_mark(file.parent)
        return identity(recipe, self.varied), mark is None or is_older(mark), file.parent

    def find(self, job: Mapping[str, object]) -> Path | None:
        """Return the folder of the run that belongs to a job, a finished run if there is one; None without a run."""
        from soft.runs.identity import same_run

        return next((folder for theirs, older, folder in self._runs if same_run(job, theirs, older)), None)

    def place(self, job: Mapping[str, object], name: str) -> tuple[Path, Path | None]:
        """Return the folder in which a job is to run, and the checkpoint to go on from (None to begin).

        The folder is that of the job's earlier start, if there was one. Otherwise it is `name`, or the next free number
        if another run has that folder. An earlier start that has left no checkpoint is deleted.
        """
        folder = self.find(job)
        if folder is None:
            folder, number = self.path / name, int(name) if name.isdigit() else 0
            while folder in [taken for _, _, taken in self._runs]:
                number += 1
                folder = self.path / str(number)
            self._runs.append((dict(job), False, folder))
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if checkpoint.is_file():
            return folder, checkpoint
        if (folder / ".hydra").is_dir():
            shutil.rmtree(folder)
        return folder, None


def run_missing(
    launcher: Launcher, context: HydraContext, config: DictConfig, jobs: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Launch the jobs that no earlier start has finished; return a result for every job.

    Args:
        launcher: what runs the jobs.
        context: Hydra's, to load the configuration of each job.
        config: the sweep's configuration.
        jobs: the overrides of each job.
    """
    from soft.runs.folder import RESULT
    from soft.runs.identity import identity

    sweep = Path(config.hydra.sweep.dir).absolute()
    varied = _varied(jobs)
    runs, finished, missing, keys = SweepFolder(sweep, varied), {}, {}, []
    for number, overrides in enumerate(jobs):
        job = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
        recipe = identity(_resolve(job, varied), varied)
        key = json.dumps(recipe, sort_keys=True)
        keys.append(key)
        if key in finished or key in missing:
            continue  # jobs that compute the same are run once
        folder = runs.find(recipe)
        if folder is not None and (folder / RESULT).is_file():
            finished[key] = JobReturn(
                list(filter_overrides(overrides)), job, working_dir=str(folder), status=JobStatus.COMPLETED
            )
            finished[key].return_value = objective(folder)
            continue
        folder, checkpoint = runs.place(recipe, inside(job.hydra.sweep.subdir, "hydra.sweep.subdir"))
        goes_on = [f"resume={quote(checkpoint)}"] if checkpoint else []
        missing[key] = [*overrides, *goes_on, f"hydra.sweep.subdir={quote(folder.relative_to(sweep))}"]
    if finished:
        print(f"{len(finished)} of {len(jobs)} runs are finished already, in {sweep}", flush=True)
    if missing:
        launched = launcher.launch(list(missing.values()), initial_job_idx=0)
        finished |= zip(missing, launched, strict=True)
    return [finished[key] for key in keys]


def _resolve(job: DictConfig, varied: Sequence[str]) -> dict[str, object]:
    """Return the configuration of a job that has not started, as the job's config.yaml will hold it."""
    from soft.runs.identity import RECORDING

    parts = [name for name in job if name not in RECORDING]
    recipe = OmegaConf.masked_copy(job, parts)
    for key in varied:
        if key.partition(".")[0] in RECORDING:
            OmegaConf.update(recipe, key, OmegaConf.select(job, key), force_add=True)
    return masked(OmegaConf.to_container(recipe, resolve=True))


@contextmanager
def lock_sweep(config: DictConfig) -> Iterator[Path]:
    """Lock the sweep's folder for this process, and yield it.

    Raises:
        ConfigError: another sweep is running in the folder.
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
    """Write the sweep's report and list the runs that failed; raise the error of the first one."""
    if any(sweep.rglob("result.json")):
        print(flush=True)
        subprocess.run([sys.executable, str(SOURCES / "report.py"), f"sweep={sweep}"], check=False)
    failed = [result for result in results if result.status == JobStatus.FAILED]
    if results:
        print(f"\n{len(results) - len(failed)} of {len(results)} runs finished, in {sweep}", flush=True)
    for result in failed:
        print(f"failed: {result.working_dir} {' '.join(result.overrides)}", file=sys.stderr)
    for result in failed:
        _ = result.return_value  # raises the job's error
