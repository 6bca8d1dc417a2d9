"""Hydra launcher `processes`: every job of a sweep is a process tree of its own.

Jobs that share a process share what PyTorch, Lightning and W&B keep in it: distributed training started from the second
job on believes the first one's world size, and W&B goes on in the first one's run. Here each job is the command that a
user would type for it, in its own folder; one that fails ends alone.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from entrypoint import FULL_ERROR, ExplainedError
from names import inside


@dataclass
class ProcessLauncherConf:
    """conf of hydra/launcher=processes."""

    _target_: str = "hydra_plugins.processes.ProcessLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessLauncherConf, provider="soft")


class ProcessLauncher(Launcher):
    """Runs the jobs one after the other, each as `python ENTRY_POINT overrides hydra.run.dir=SWEEP/NUMBER`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        sweep = Path(self.config.hydra.sweep.dir).absolute()
        results = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            job = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(job):
                job.hydra.job.id = job.hydra.job.num = number
            folder = sweep / inside(str(job.hydra.sweep.subdir), "hydra.sweep.subdir")
            words = " ".join(filter_overrides(overrides))
            print(f"\nrun {number} ({len(results) + 1} of {len(job_overrides)}): {words}", flush=True)
            command = [sys.executable, sys.argv[0], "--config-name", self.config.hydra.job.config_name, *overrides]
            # A default from the config file would otherwise send the job back into a sweep.
            code = _run_tree([*command, "hydra.mode=RUN", f'hydra.run.dir="{folder}"', f"hydra.job.num={number}"])
            results.append(_result(code, folder, overrides, job))
        failed = [result for result in results if result.status == JobStatus.FAILED]
        print(f"\n{len(results) - len(failed)} of {len(results)} runs finished, in {sweep}", flush=True)
        for result in failed:
            print(f"failed: {result.working_dir} {' '.join(result.overrides)}", file=sys.stderr)
        return results


def _run_tree(command: list[str]) -> int:
    """Exit code of `command`; whatever it leaves behind is killed, and an interruption is passed on to it."""
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR" or FULL_ERROR}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _result(code: int, folder: Path, overrides: Sequence[str], job: DictConfig) -> JobReturn:
    result = JobReturn(overrides=list(filter_overrides(overrides)), cfg=job, working_dir=str(folder))
    summary = folder / "result.json"
    if code == 0:
        result.status = JobStatus.COMPLETED
        result.return_value = json.loads(summary.read_text())["top1"] if summary.is_file() else None
    else:
        result.status = JobStatus.FAILED
        result.return_value = ExplainedError(f"{folder} ended with exit code {code}")
    return result
