"""Hydra launcher `processes`: every job of a sweep runs in a process tree of its own.

Jobs in one process would share the state of PyTorch, Lightning and W&B: distributed training in a later job would
take over the first job's world size, and W&B would log into the first job's run. Here each job is the command that a
user would type for it, in its own folder, and a job that fails does not end the others.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from cli.command_line import ConfigError
from cli.entry import full_errors
from cli.ranks import SWEEP
from cli.safe_names import inside
from cli.sweep_jobs import (
    ExplainedError,
    describe_objective,
    job_command,
    objective,
    pass_on_signals,
    refuse_ranks,
    run_tree,
    words_for_jobs,
)

CONSOLE_LOG = "console.log"
PATIENCE = 60  # seconds that jobs get to end by themselves when the sweep is interrupted


@dataclass
class ProcessLauncherConf:
    """Settings of hydra/launcher=processes."""

    _target_: str = "hydra_plugins.processes.ProcessLauncher"
    jobs: Any = 1  # number of jobs side by side, which share the cores; auto: one job for each core, with one thread


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessLauncherConf, provider="soft")


@dataclass(frozen=True)
class Job:
    """One run of the sweep: its number, overrides, configuration and folder."""

    number: int
    overrides: list[str]
    config: DictConfig
    folder: Path

    def result(self, code: int) -> JobReturn:
        """Return what Hydra has to know about this job when it has ended with exit code `code`."""
        result = JobReturn(list(filter_overrides(self.overrides)), self.config, working_dir=str(self.folder))
        result.status = JobStatus.FAILED if code else JobStatus.COMPLETED
        result.return_value = ExplainedError() if code else objective(self.folder)  # the job has reported its error
        return result


class ProcessLauncher(Launcher):
    """Launcher that runs each job as `python ENTRY_POINT overrides hydra.run.dir=SWEEP/NUMBER`.

    Jobs that run one at a time print to the terminal; jobs side by side print to console.log in their folders.

    Args:
        jobs: number of jobs side by side; `auto` for one per core.
    """

    def __init__(self, jobs: int | str = 1):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if jobs != "auto" and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
            raise ConfigError(f"hydra.launcher.jobs={jobs} has to be a whole number of at least 1, or auto.")
        self.jobs = cores if jobs == "auto" else jobs
        self._threads = max(1, cores // self.jobs)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        refuse_ranks()
        setup_globals()
        sweep = Path(self.config.hydra.sweep.dir).absolute()
        jobs = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
            folder = sweep / inside(str(config.hydra.sweep.subdir), "hydra.sweep.subdir")
            jobs.append(Job(number, list(overrides), config, folder))
        common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
        titles = [
            f"run {job.folder.relative_to(sweep)} ({place} of {len(jobs)}): "
            + " ".join(word for word in filter_overrides(job.overrides) if word not in common)
            for place, job in enumerate(jobs, start=1)
        ]
        if self.jobs > 1:
            return self._run_side_by_side(jobs, titles)
        results = []
        for job, title in zip(jobs, titles, strict=True):
            print(f"\n{title}", flush=True)
            results.append(job.result(self._run(job)))
        return results

    def _run(self, job: Job, env: dict[str, str] | None = None, **options: object) -> int:
        name = self.config.hydra.job.config_name
        overrides = [*job.overrides, *words_for_jobs(self.config.hydra)]
        command = job_command(sys.argv[0], name, overrides, job.folder, job.number)
        env = {**(env or {}), SWEEP: str(os.getpid())}
        return run_tree(command, without=() if full_errors() else ("HYDRA_FULL_ERROR",), env=env, **options)

    def _run_side_by_side(self, jobs: list[Job], titles: list[str]) -> list[JobReturn]:
        running: set[subprocess.Popen] = set()
        ended: list[Job] = []
        start = time.monotonic()
        threads = os.environ.get("OMP_NUM_THREADS", str(self._threads))
        env = {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}  # unbuffered, so that console.log is up to date

        def run(job: Job, title: str) -> JobReturn:
            if received:
                return job.result(1)
            print(title, flush=True)
            job.folder.mkdir(parents=True, exist_ok=True)
            with (job.folder / CONSOLE_LOG).open("a") as console:
                code = self._run(job, env, running=running, stdout=console, stderr=subprocess.STDOUT)
            result = job.result(code)
            ended.append(job)
            left = len(jobs) - len(ended)
            minutes = (time.monotonic() - start) / len(ended) * left / 60
            rest = f", about {minutes:.0f} min left" if left else ""
            print(f"{title.split(' (')[0]}: {_outcome(result)}; {len(ended)} of {len(jobs)} done{rest}", flush=True)
            return result

        with pass_on_signals(running) as received, ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(run, job, title) for job, title in zip(jobs, titles, strict=True)]
            try:
                results = [future.result() for future in futures]
            except KeyboardInterrupt:
                _interrupt(futures, running)
                raise
        if signal.SIGTERM in received:
            sys.exit(128 + signal.SIGTERM)
        return results


def _interrupt(futures: list[Future], running: set[subprocess.Popen]) -> None:
    for future in futures:
        future.cancel()
    for process in list(running):
        process.send_signal(signal.SIGINT)
    wait(futures, timeout=PATIENCE)
    for process in list(running):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _outcome(result: JobReturn) -> str:
    """Return how a job ended, in a few words."""
    if result.status == JobStatus.FAILED:
        lines = (Path(result.working_dir) / CONSOLE_LOG).read_text().strip().splitlines()
        return f"failed: {lines[-1] if lines else 'no output'}"
    return "finished" if result.return_value is None else describe_objective(Path(result.working_dir))
