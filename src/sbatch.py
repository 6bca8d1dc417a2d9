"""Print a SLURM batch script for one run of src/train.py.

    python src/sbatch.py model=soft_medium trainer=v100_ddp --time=48:00:00 --partition=gpu > run.sh
    sbatch run.sh

Nodes, tasks and GPUs follow from the trainer. Words that begin with `--` are options of sbatch, and replace the
defaults of this script; all others are settings of src/train.py, and so is --config-dir=FOLDER.
"""

import shlex
import sys
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from hydra.types import RunMode

from cli.checkpoint_model import add_checkpoint_model
from cli.command_line import ConfigError, rewrite
from cli.entry import DictConfig, ListConfig, hydra
from cli.mistakes import explain
from cli.places import CONFIG_DIR, SOURCES
from cli.safe_names import inside
from cli.secrets import hide_secrets

OPTIONS = {
    "cpus-per-task": "4",  # for the loader's processes
    "time": "24:00:00",
    "signal": "USR1@300",  # 300 seconds before the time is up, the run writes a checkpoint and is queued again
    "requeue": "",  # allows that, and also queues the job again when a node fails
    "open-mode": "append",  # keeps the log of an earlier start of the job
    "output": "slurm-%j.log",
}
ONE_RUN = "One script is one run; a sweep is submitted by src/train.py -m hydra/launcher=slurm ..."
# They print something or stand before the settings of src/train.py, so they say nothing to sbatch.
HYDRA_OPTIONS = ("cfg", "resolve", "package", "info", "config-path", "config-name", "run")


def batch_script(cfg: DictConfig, settings: Sequence[str], options: dict[str, str]) -> str:
    """Return the script that runs src/train.py with `settings`.

    Args:
        cfg: the configuration that is composed from `settings`.
        settings: the settings of src/train.py, as typed.
        options: the options of sbatch that were typed, by their names without `--`.

    Raises:
        ConfigError: the trainer leaves open how many devices there are, or whether they are GPUs.
    """
    request = {"job-name": str(cfg.name), **slurm_request(cfg.trainer, options), **OPTIONS, **options}
    lines = [
        f"#SBATCH --{name}={shlex.quote(value)}" if value else f"#SBATCH --{name}" for name, value in request.items()
    ]
    train = shlex.join([sys.executable, str(SOURCES / "train.py")])
    # Typed settings come last, so that they win. After a requeue the job has the same number, and so the same folder.
    folder = shlex.quote(f"hydra.run.dir=outputs/{inside(cfg.name)}/slurm_") + '"$SLURM_JOB_ID"'
    run = f"resume=auto {folder} {shlex.join(settings)}".rstrip()
    typed = shlex.join(sys.argv[1:]).replace("\n", " ")  # a line break would end the comment
    return "\n".join(
        [
            "#!/bin/bash",
            f"# Written by: python src/sbatch.py {typed}",
            *lines,
            "",
            f"cd {shlex.quote(str(Path.cwd()))}",
            "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun does not take this from sbatch by itself",
            "# One rank that fails ends the others.",
            f"exec srun --kill-on-bad-exit=1 {train} {run}",
        ]
    )


def slurm_request(trainer: DictConfig, options: Collection[str] = ()) -> dict[str, str]:
    """Return sbatch's options for a trainer config: one task per device, which Lightning requires.

    Args:
        options: names of the options that are typed besides.

    Raises:
        ConfigError: the config leaves open how many devices there are, or whether they are GPUs.
    """
    nodes = 1 if trainer.num_nodes == "auto" else trainer.num_nodes
    devices = len(trainer.devices) if isinstance(trainer.devices, ListConfig) else trainer.devices
    if not isinstance(devices, int) or devices < 1:
        raise ConfigError(
            f"trainer.devices={trainer.devices} does not say how many each node of the cluster has. Set it to a number."
        )
    if trainer.accelerator == "auto" and not any(name.startswith(("gres", "gpus")) for name in options):
        raise ConfigError(
            "trainer.accelerator=auto does not say whether the job is to get GPUs; choose trainer=gpu or trainer=cpu."
        )
    request = {"nodes": str(nodes), "ntasks-per-node": str(devices)}
    return {**request, "gres": f"gpu:{devices}"} if trainer.accelerator in ("gpu", "cuda") else request


def main() -> None:
    typed = sys.argv[1:]
    options = dict(word[2:].partition("=")[::2] for word in typed if word.startswith("--"))
    settings = [word for word in typed if not word.startswith("--")]
    if {"help", "h"} & set(options) or "-h" in settings:
        return print(__doc__)
    try:
        if "-m" in settings or "multirun" in options:
            raise ConfigError(ONE_RUN)
        if hydras := [f"--{name}" for name in options if name in HYDRA_OPTIONS]:
            raise ConfigError(f"{hydras[0]} is an option of src/train.py, and here `--` begins options of sbatch.")
        if hide_secrets(settings, env={}) != settings:
            raise ConfigError("A script would hold the secret that is in these settings; leave it to the environment.")
        if single := [word for word in settings if word.startswith("-")]:
            raise ConfigError(f"{single[0]} is no setting; options of sbatch are written as --name=value.")
        for option, word in pairwise(typed):
            if option.startswith("--") and "=" not in option + word:
                raise ConfigError(f"{word!r} stands alone; with its option it is written {option}={word}")
        if folder := options.pop("config-dir", None):
            settings.insert(0, f"--config-dir={Path(folder).expanduser().absolute()}")
        sys.argv[1:] = rewrite(settings, "train")
        add_checkpoint_model("train")  # the run's name follows from its model
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            cfg = hydra.compose("train", overrides=sys.argv[1:], return_hydra_config=True)
        if cfg.hydra.mode == RunMode.MULTIRUN:
            raise ConfigError(f"These settings start a sweep. {ONE_RUN}")
        sys.argv[1:] = typed
        print(batch_script(cfg, settings, options))
    except Exception as error:
        message = explain(error, "train")
        if message is None:
            raise
        print(f"ERROR: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
