"""Hydra launcher `slurm`: submits every job of a sweep as a SLURM job, with the submitit launcher plugin."""

from collections.abc import Sequence
from contextlib import suppress

from hydra.core.utils import JobReturn

from cli.command_line import ConfigError

with suppress(ImportError):  # an extra: pip install -e '.[slurm]'
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

    class SoftSlurmLauncher(SlurmLauncher):
        """Launcher that asks SLURM for the nodes, tasks and GPUs that the jobs' trainer needs."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            from sbatch import slurm_request

            loader = self.hydra_context.config_loader
            requests = [
                slurm_request(loader.load_sweep_config(self.config, list(job)).trainer) for job in job_overrides
            ]
            if any(request != requests[0] for request in requests):
                raise ConfigError("The jobs of this sweep need different nodes or devices; submit one sweep for each.")
            self.params["nodes"] = int(requests[0]["nodes"])
            self.params["tasks_per_node"] = int(requests[0]["ntasks-per-node"])
            self.params["gres"] = requests[0].get("gres")
            return super().launch(job_overrides, initial_job_idx)
