"""Hydra launcher `processes`: every job of a sweep is a process tree of its own.

Jobs that share a process share what PyTorch, Lightning and W&B keep in it: distributed training started from the second
job on believes the first one's world size, and W&B goes on in the first one's run. Here each job is the command that a
user would type for it, in its own folder; one that fails ends alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from entrypoint import FULL_ERROR
from jobs import ExplainedError, job_command, objective, refuse_ranks, run_tree
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
        refuse_ranks()
        setup_globals()
        sweep = Path(self.config.hydra.sweep.dir).absolute()
        name = self.config.hydra.job.config_name
        results = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            job = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(job):
                job.hydra.job.id = job.hydra.job.num = number
            folder = sweep / inside(str(job.hydra.sweep.subdir), "hydra.sweep.subdir")
            words = " ".join(filter_overrides(overrides))
            print(f"\nrun {number} ({len(results) + 1} of {len(job_overrides)}): {words}", flush=True)
            command = job_command(sys.argv[0], name, overrides, folder, number)
            code = run_tree(command, without=() if FULL_ERROR else ("HYDRA_FULL_ERROR",))
            results.append(_result(code, folder, overrides, job))
        failed = [result for result in results if result.status == JobStatus.FAILED]
        print(f"\n{len(results) - len(failed)} of {len(results)} runs finished, in {sweep}", flush=True)
        for result in failed:
            print(f"failed: {result.working_dir} {' '.join(result.overrides)}", file=sys.stderr)
        return results


def _result(code: int, folder: Path, overrides: Sequence[str], job: DictConfig) -> JobReturn:
    result = JobReturn(overrides=list(filter_overrides(overrides)), cfg=job, working_dir=str(folder))
    if code == 0:
        result.status = JobStatus.COMPLETED
        result.return_value = objective(folder)
    else:
        result.status = JobStatus.FAILED
        result.return_value = ExplainedError()  # named above
    return result
