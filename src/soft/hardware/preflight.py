"""What a run needs of machines, compared with what is here, before anything is started."""

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from soft.hardware.layout import BatchLayout
from soft.hardware.memory import GIB, Memory

# Beyond this share of a device's memory, what is not tensors (`Memory`) may not fit any more.
CAREFUL_SHARE = 0.9


@dataclass(frozen=True)
class Finding:
    """Something to know before a launch.

    Attributes:
        kind: `error`, the recipe cannot run as it stands, also on the hardware that it names; `missing`, this machine
            lacks something, and a launch here would be refused; `warning`, a launch goes on.
        text: one or two sentences that say what to change.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class RankPlan:
    """One process of a run."""

    rank: int
    node: int
    local_rank: int
    device: str  # cuda:3, cpu
    images: list[range]  # of the first step, one for each accumulated pass: positions in the epoch's order


def plan_ranks(
    layout: BatchLayout, per_node: int, accelerator: str, indices: Sequence[int] | None = None
) -> list[RankPlan]:
    """What each of `layout.devices` processes would do, in the order of their ranks.

    Args:
        per_node: processes on a node.
        accelerator: as from `soft.hardware.devices.choose_accelerator`.
        indices: of the devices of a node, where they are not 0, 1, 2 ...
    """
    ranks = []
    for rank in range(layout.devices):
        node, local_rank = divmod(rank, per_node)
        index = indices[local_rank] if indices else local_rank
        # As soft.data.sampling.EpochSampler deals them out.
        starts = [(j * layout.devices + rank) * layout.per_device for j in range(layout.accumulate)]
        images = [range(start, start + layout.per_device) for start in starts]
        device = f"{accelerator}:{index}" if accelerator == "cuda" else accelerator
        ranks.append(RankPlan(rank, node, local_rank, device, images))
    return ranks


def check_nodes(nodes: int, per_node: int, env: Mapping[str, str] = os.environ) -> list[Finding]:
    """The processes of a recipe against those that SLURM or torchrun say there are; nothing outside of both."""
    findings = []
    if "TORCHELASTIC_RUN_ID" in env and int(env["WORLD_SIZE"]) != nodes * per_node:
        findings.append(
            Finding(
                "missing",
                f"torchrun started {env['WORLD_SIZE']} processes (WORLD_SIZE), and trainer.num_nodes={nodes} x "
                f"trainer.devices={per_node} is {nodes * per_node}; make them equal.",
            )
        )
    given = env.get("SLURM_JOB_NUM_NODES", env.get("SLURM_NNODES"))
    if given is not None and int(given) != nodes:
        lacking = int(given) < nodes
        findings.append(
            Finding(
                "missing" if lacking else "warning",
                f"This SLURM job has {given} node{'s' if given != '1' else ''} (SLURM_JOB_NUM_NODES), and "
                f"trainer.num_nodes={nodes}: "
                + (f"ask for them with sbatch --nodes={nodes}." if lacking else "the others would idle."),
            )
        )
    return findings


def device_memory(accelerator: str, per_node: int, configured: float | None) -> int | None:
    """Bytes that one process may use: the device's here, else `configured` (GiB); of a machine's memory, its share."""
    if accelerator == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    if configured is not None:
        return int(configured * GIB)
    if accelerator == "mps" and torch.backends.mps.is_available():
        return torch.mps.recommended_max_memory()
    return host_memory() // per_node if accelerator == "cpu" else None


def host_memory() -> int:
    """Bytes of memory of this machine, or of this container."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    container = Path("/sys/fs/cgroup/memory.max")
    if container.is_file() and (text := container.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(limits)


def check_memory(memory: Memory, available: int | None) -> list[Finding]:
    """The estimate against `available` bytes of one device."""
    if available is None or memory.peak <= CAREFUL_SHARE * available:
        return []
    part = "A training step" if memory.training >= memory.validation else "Validation"
    change = (
        "Lower trainer.max_batch_per_device, or set model.grad_checkpointing=true"
        if memory.training > available * CAREFUL_SHARE
        else "Lower data.val_batch_size"
    )
    return [
        Finding(
            "error" if memory.peak > available else "warning",
            f"{part} is expected to need {gib(memory.peak)} of the device's {gib(available)}. {change}.",
        )
    ]


def check_disk(folder: Path, needed: int) -> tuple[int, list[Finding]]:
    """Bytes free where `folder` is or would be made, and a warning if they are fewer than `needed` for checkpoints."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free >= needed:
        return free, []
    return free, [
        Finding(
            "warning",
            f"The checkpoints need up to {gib(needed)}, and {there} has {gib(free)} free. Make room, or choose another "
            "folder with hydra.run.dir.",
        )
    ]


def answers(url: str, timeout: float = 3.0) -> bool:
    """Whether a web server answers at `url` within `timeout` seconds, through the proxies of the environment."""
    try:
        urllib.request.urlopen(url, timeout=timeout).close()
    except urllib.error.HTTPError:
        return True  # an answer, whatever it says
    except (OSError, ValueError):
        return False
    return True


def gib(size: int) -> str:
    """Bytes for a person."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
