"""Compares what a run requires of its machines with what they have, before anything is started."""

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soft.hardware.memory import gib
from soft.hardware.memory_estimate import MemoryEstimate

# Above this share of a device's memory, what `MemoryEstimate` does not count (the CUDA context, fragments) may not fit.
CAREFUL_SHARE = 0.9


@dataclass(frozen=True)
class LaunchIssue:
    """Something that a user should know before a launch.

    Attributes:
        kind: `error` if the recipe cannot run as it stands, even on the hardware that it names; `missing` if this
            machine lacks something, so that a launch here would be refused; `warning` if a launch goes on.
        text: one or two sentences that say what to change.
    """

    kind: str
    text: str


def check_nodes(nodes: int, per_node: int, env: Mapping[str, str] = os.environ) -> list[LaunchIssue]:
    """Return findings where SLURM or torchrun announce other processes than a recipe asks for; none without them."""
    findings = []
    if "TORCHELASTIC_RUN_ID" in env and int(env["WORLD_SIZE"]) != nodes * per_node:
        findings.append(
            LaunchIssue(
                "missing",
                f"torchrun started {env['WORLD_SIZE']} processes (WORLD_SIZE), and trainer.num_nodes={nodes} x "
                f"trainer.devices={per_node} is {nodes * per_node}; make them equal.",
            )
        )
    given = env.get("SLURM_JOB_NUM_NODES", env.get("SLURM_NNODES"))
    if given is not None and int(given) != nodes:
        lacking = int(given) < nodes
        findings.append(
            LaunchIssue(
                "missing" if lacking else "warning",
                f"This SLURM job has {given} node{'s' if given != '1' else ''} (SLURM_JOB_NUM_NODES), and "
                f"trainer.num_nodes={nodes}: "
                + (f"ask for them with sbatch --nodes={nodes}." if lacking else "the others would idle."),
            )
        )
    return findings


def check_memory(memory: MemoryEstimate, available: int | None) -> list[LaunchIssue]:
    """Return a finding if the estimate comes near the `available` bytes of one device; none if those are unknown."""
    if available is None or memory.peak <= CAREFUL_SHARE * available:
        return []
    part = "A training step" if memory.training >= memory.validation else "Validation"
    change = (
        "Lower trainer.max_batch_per_device, or set model.grad_checkpointing=true"
        if memory.training > available * CAREFUL_SHARE
        else "Lower data.val_batch_size"
    )
    return [
        LaunchIssue(
            "error" if memory.peak > available else "warning",
            f"{part} is expected to need {gib(memory.peak)} of the device's {gib(available)}. {change}.",
        )
    ]


def check_disk(folder: Path, needed: int) -> tuple[int, list[LaunchIssue]]:
    """Return the bytes free where `folder` is or would be made, with a warning if checkpoints need more.

    Args:
        folder: the run's folder, which need not exist.
        needed: bytes of all checkpoints that can exist at the same time.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free >= needed:
        return free, []
    return free, [
        LaunchIssue(
            "warning",
            f"The checkpoints need up to {gib(needed)}, and {there} has {gib(free)} free. Make "
            "room, or choose another folder with hydra.run.dir.",
        )
    ]


def is_reachable(url: str, timeout: float = 3.0) -> bool:
    """Return whether a web server answers at `url` within `timeout` seconds, through the environment's proxies."""
    try:
        urllib.request.urlopen(url, timeout=timeout).close()
    except urllib.error.HTTPError:
        return True  # an answer, even if it is a refusal
    except (OSError, ValueError):
        return False
    return True
