"""Runs each job of a sweep in a process tree of its own, whichever launcher starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cli.command_line import ConfigError, key_of, unquote
from cli.ranks import this_launch

# Signals that end a job cleanly, and the signal that the job gets for each. submitit sends USR2 instead of USR1.
_PASSED_ON = {signal.SIGTERM: signal.SIGTERM, signal.SIGUSR1: signal.SIGUSR1, signal.SIGUSR2: signal.SIGUSR1}
# Settings of one command's folder, which all jobs of a sweep would share.
_ONE_FOLDER = ("output_dir", "hydra.run.dir")
# Hydra's settings of a sweep itself, and those that the command of each job has already.
_OF_THE_SWEEP = ("sweep", "sweeper", "launcher", "run", "mode", "output_subdir")


class ExplainedError(Exception):
    """Error of a job that has been reported to the user already."""


def check_typed_folders(words: Sequence[str]) -> None:
    """Refuse a sweep with one folder for all of its jobs, or with jobs whose folders do not say what they hold.

    Args:
        words: the overrides that were typed for the sweep.

    Raises:
        ConfigError: `output_dir`, `hydra.run.dir` or `hydra.output_subdir` is among them.
    """
    for word in words:
        if key_of(word) == "hydra.output_subdir":
            raise ConfigError(
                f"{word} has no place in a sweep, whose jobs are known by their .hydra folders; leave it out."
            )
        if key_of(word) in _ONE_FOLDER:
            raise ConfigError(
                f"{unquote(word)} would be one folder for all jobs of this sweep; use hydra.sweep.dir, in which every "
                "job gets a folder of its own."
            )


def words_for_jobs(config: DictConfig) -> list[str]:
    """Return the typed overrides of Hydra's own settings that hold for each job of a sweep, not for the sweep itself.

    Args:
        config: Hydra's own node of the sweep's configuration.
    """
    words = OmegaConf.to_container(config.overrides.hydra)  # unresolved, so that no secret stands on a command line
    return [word for word in words if re.split("[./]", key_of(word))[1] not in _OF_THE_SWEEP]


def job_command(script: str, config_name: str, overrides: Sequence[str], folder: str | Path, number: int) -> list[str]:
    """Return the command that a user would type to run one job of a sweep, the `number`-th, in `folder`."""
    command = [sys.executable, script, "--config-name", config_name, *overrides]
    # A config file can set hydra.mode to MULTIRUN, and the job would then start a sweep of its own.
    return [*command, "hydra.mode=RUN", f"hydra.run.dir={folder}", f"hydra.job.num={number}"]


def run_tree(
    command: Sequence[str],
    without: Sequence[str] = (),
    failed: Path | None = None,
    env: Mapping[str, str] | None = None,
    running: set[subprocess.Popen] | None = None,
    **streams: object,
) -> int:
    """Run `command` and return its exit code; pass signals on to it, and kill every process that it leaves behind.

    Args:
        command: the program and its arguments.
        without: names of environment variables that the program does not get.
        failed: file that tells the ranks of one run, each started by a call like this one, that a rank has failed. The
            other ranks may wait for that rank in vain, so they get ten seconds to end by themselves.
        env: further environment variables for the program.
        running: set that holds the process while it runs. A caller that runs several processes at a time uses the set
            to pass signals on to all of them.
        streams: `stdout` and `stderr` of the program; by default those of this process.

    Raises:
        SystemExit: this process got SIGTERM.
    """
    environment = {key: value for key, value in os.environ.items() if key not in without} | dict(env or {})
    process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)
    running = set() if running is None else running
    running.add(process)
    try:
        with pass_on_signals(running) as received:
            code = _wait(process, failed)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):  # it is killed below
            process.wait(timeout=60)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        running.discard(process)
    if signal.SIGTERM in received:
        sys.exit(128 + signal.SIGTERM)
    return code


def _wait(process: subprocess.Popen, failed: Path | None) -> int:
    if failed is None:
        return process.wait()
    while process.poll() is None:
        if failed.exists():
            with suppress(subprocess.TimeoutExpired):
                return process.wait(10)
            return -signal.SIGKILL
        time.sleep(1)
    if process.returncode:
        failed.touch()
    return process.returncode


@contextmanager
def pass_on_signals(running: set[subprocess.Popen]) -> Iterator[set[int]]:
    """Pass the signals that end this process on to the processes in `running`; yield the set of received signals."""
    received: set[int] = set()

    def pass_on(number: int, _: object) -> None:
        received.add(number)
        for process in list(running):
            process.send_signal(_PASSED_ON[signal.Signals(number)])

    if threading.current_thread() is not threading.main_thread():  # Python allows handlers in the main thread only
        yield received
        return
    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def objective(folder: Path) -> float | None:
    """Return what a sweep compares: the best value of a run's monitored metric, or an evaluation's top-1 in percent.

    None stands for a folder that holds neither.
    """
    if (folder / "result.json").is_file():
        from soft.runs.result import best_value, read_result

        return best_value(read_result(folder))
    if (folder / "evaluation.json").is_file():
        return json.loads((folder / "evaluation.json").read_text())["top1"]
    return None


def describe_objective(folder: Path) -> str:
    """Return the objective of a run as text for a person, with the metric's name."""
    from soft.runs.metrics import show_metric
    from soft.runs.result import read_result

    result = read_result(folder) or {}
    metric, value = result.get("monitor", "val/top1"), objective(folder)
    name = "top-1" if metric == "val/top1" else metric
    return f"{name} {show_metric(metric, value)}"


def run_sweep_job(script: str) -> float | None:
    """Run the job that a launcher has set up in this process, in a process tree of its own; return its objective.

    Raises:
        ExplainedError: the job failed.
        SettingError: torchrun started several processes.
    """
    refuse_ranks(by="torchrun")
    config, env = HydraConfig.get(), os.environ
    folder, failed = Path(config.runtime.output_dir), None
    job, tasks = env.get("SLURM_JOB_ID"), int(env.get("SLURM_STEP_NUM_TASKS", 1))
    if int(env.get("SUBMITIT_LOCAL_NTASKS", 1)) > 1:  # tasks of one job are ranks, as under SLURM
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        job, tasks = env["SUBMITIT_LOCAL_JOB_ID"], int(env["SUBMITIT_LOCAL_NTASKS"])
    restarts = env.get("SLURM_RESTART_COUNT", "0")
    if tasks > 1:
        failed = folder / f".failed_{job}_{restarts}"
    overrides = [*OmegaConf.to_container(config.overrides.task), *words_for_jobs(config)]
    overrides += ["resume=auto"] if restarts != "0" else []
    command = job_command(script, config.job.config_name, overrides, folder, config.job.num)
    if code := run_tree(command, failed=failed):
        raise ExplainedError(f"the run in {folder} ended with exit code {code}; {config.job.config_name}.log says why.")
    return objective(folder)


def refuse_ranks(by: str | None = None) -> None:
    """Refuse to start a sweep in each of several processes.

    Args:
        by: the launcher whose processes are refused; None refuses those of every launcher.

    Raises:
        SettingError: several processes were started.
    """
    launch = this_launch()
    if launch and launch.nodes * launch.per_node > 1 and by in (None, launch.by):
        from soft.errors import SettingError

        raise SettingError(
            f"A sweep is started by one process, and {launch.by} started {launch.nodes * launch.per_node}. Leave out "
            f"{launch.by}: trainer=gpu_ddp gives every job its processes, and hydra/launcher=slurm its nodes."
        )
