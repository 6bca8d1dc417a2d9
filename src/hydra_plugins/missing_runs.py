"""Runs those jobs of a sweep that no earlier start has finished, and ends the sweep with its report."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from cli.command_line import ConfigError, key_of, quote
from cli.places import SOURCES
from cli.ranks import REPORT
from cli.safe_names import inside
from cli.secrets import masked
from cli.sweep_jobs import check_typed_folders, objective
from hydra_plugins.job_settings import JobSettings
from hydra_plugins.other_studies import OtherStudies, take_over
from hydra_plugins.sweep_folder import SweepFolder, evaluations_in


def run_missing(
    launcher: Launcher, context: HydraContext, config: DictConfig, jobs: Sequence[Sequence[str]]
) -> list[JobReturn]:
    """Launch the jobs that no earlier start has finished; return a result for every job.

    Args:
        launcher: what runs the jobs.
        context: Hydra's context, which loads the configuration of each job.
        config: the sweep's configuration.
        jobs: the overrides of each job.
    """
    from soft.runs.folder import RESULT
    from soft.runs.identity import identity

    sweep = Path(config.hydra.sweep.dir).absolute()
    settings = JobSettings(context, config)
    composed = [settings.compose(overrides) for overrides in jobs]
    settings.check()
    for word, options in settings.left_out.items():
        print(f"{word} is left out of the runs that have no such setting: {', '.join(options)}", flush=True)
    varied = _varied([overrides for _, overrides in composed])
    runs, finished, missing, keys = SweepFolder(sweep, varied), {}, {}, []
    others, taken, folders, repeated = OtherStudies(sweep, config, varied), [], {}, []
    evaluates = config.hydra.job.config_name == "evaluate"
    for number, (job, overrides) in enumerate(composed):
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
        recipe = identity(_resolve(job, varied), varied)
        key = json.dumps(recipe, sort_keys=True)
        keys.append(key)
        if key in finished or key in missing:
            repeated.append(jobs[number])
            continue
        folder = runs.find(recipe)
        if folder is None and (run := others.find(recipe)):
            folder, _ = runs.place(recipe, inside(job.hydra.sweep.subdir, "hydra.sweep.subdir"))
            take_over(run, folder, job, overrides)
            taken.append(run.parent.name)
        evaluation = evaluates and runs.find_evaluation(overrides, str(job.get("checkpoint")))
        if evaluation or (folder is not None and (folder / RESULT).is_file()):
            folder = evaluation or folder
            finished[key] = JobReturn(
                list(filter_overrides(overrides)), job, working_dir=str(folder), status=JobStatus.COMPLETED
            )
            finished[key].return_value = objective(folder)
            continue
        folder, checkpoint = runs.place(recipe, inside(job.hydra.sweep.subdir, "hydra.sweep.subdir"))
        goes_on = [f"resume={quote(checkpoint)}"] if checkpoint else []
        missing[key] = [*overrides, *goes_on, f"hydra.sweep.subdir={quote(folder.relative_to(sweep))}"]
        folders[key] = folder
    if repeated:
        _tell_repeated(repeated, jobs)
    if finished:
        print(f"{len(finished)} of {len(finished) + len(missing)} runs are finished already, in {sweep}", flush=True)
    if taken:
        names = ", ".join(dict.fromkeys(taken))
        print(f"{len(taken)} of them have been taken over from other studies: {names}", flush=True)
    if missing:
        launched = launcher.launch(list(missing.values()), initial_job_idx=0)
        for key, result in zip(missing, launched, strict=True):
            result.working_dir = str(folders[key])  # some launchers give the folder that the sweep was started in
            finished[key] = result
    return [finished[key] for key in keys]


def distinct(results: Sequence[JobReturn]) -> list[JobReturn]:
    """Return one result for each run; jobs that compute the same share a run, and so its folder."""
    return list({result.working_dir: result for result in results}.values())


def _tell_repeated(repeated: Sequence[Sequence[str]], jobs: Sequence[Sequence[str]]) -> None:
    """Name the jobs that are not run, by the words that not all jobs share."""
    common = set.intersection(*map(set, jobs))
    texts = [" ".join(word for word in job if word not in common and not _is_trial(word)) for job in repeated]
    what = "1 job computes" if len(repeated) == 1 else f"{len(repeated)} jobs compute"
    verb = "is" if len(repeated) == 1 else "are"
    print(f"{what} the same as another and {verb} not repeated: {'; '.join(texts)}", flush=True)


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
        ConfigError: another sweep is running in the folder, or a word gives all jobs one folder.
    """
    typed = OmegaConf.to_container(config.hydra.overrides)
    # With resume=..., the word hydra.run.dir=... of a study need not have been typed: cli.run_folder may have added it.
    resumes = any(key_of(word) == "resume" for word in typed["task"])
    check_typed_folders([*typed["task"], *(() if resumes else typed["hydra"])])
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
    """Write the sweep's report or its table of evaluations, count the runs, and list those that failed.

    Raises:
        Exception: the error of the first run that failed.
    """
    results = distinct(results)
    folders = [Path(result.working_dir) for result in results if result.status == JobStatus.COMPLETED]
    trained = any((folder / "result.json").is_file() for folder in folders)  # and maybe evaluated in the same folder
    if not trained and any((folder / "evaluation.json").is_file() for folder in folders):
        from soft.studies.evaluation_table import FILE, write_evaluation_table

        print(f"\n{write_evaluation_table(evaluations_in(sweep), sweep)}\n\ntable: {sweep / FILE}", flush=True)
    elif any(sweep.rglob("result.json")):
        print(flush=True)
        subprocess.run([sys.executable, str(SOURCES / "report.py"), f"sweep={sweep}"], check=False)
    failed = [result for result in results if result.status == JobStatus.FAILED]
    if results:
        print(f"\n{len(results) - len(failed)} of {len(results)} runs finished, in {sweep}", flush=True)
    for result in failed:
        reason = _last_error(Path(result.working_dir))
        print(f"failed: {result.working_dir} {' '.join(result.overrides)}{reason and f': {reason}'}", file=sys.stderr)
    if failed:
        raise failed[0]._return_value  # `return_value` would print one run's overrides below this list


def _last_error(folder: Path) -> str:
    """Return the last error in the logs of a run's folder, or "" if there is none."""
    lines = [line for log in folder.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    errors = [error for line in lines if (error := line.partition("[ERROR] ")[2]) and error != REPORT]
    return errors[-1] if errors else ""


def _varied(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the keys and groups of overrides that differ between jobs and tell their runs apart.

    Three kinds of overrides do not tell runs apart: the trial number of a search, a run's name, and the choice of
    loggers or callbacks as a whole.
    """
    everywhere = set.intersection(*map(set, jobs)) if jobs else set()
    words = {word for job in jobs for word in job if word not in everywhere and not _is_trial(word)}
    keys = {key_of(word).replace("/", ".") for word in words}
    return sorted(keys - {"name", "logger", "callbacks"})


def _is_trial(word: str) -> bool:
    """Return whether an override is the number of a search's trial."""
    return key_of(word) == "callbacks.pruning.trial"
