"""What one process of a run and its folder need, compared with what is there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from soft.attention.kernels.availability import MIN_CAPABILITY, has_triton, why_not
from soft.errors import SettingError
from soft.hardware.memory import device_memory
from soft.hardware.memory_estimate import MemoryEstimate, estimate_memory
from soft.hardware.requirements import LaunchIssue, check_disk, check_memory, is_reachable
from soft.launch.hardware import Hardware
from soft.monitoring.wandb_logger import resolve_wandb_mode, wandb_server
from soft.training.inputs import input_shape

# A launch on CPUs estimates no memory for models smaller than this, since the estimate would take most of the start.
SMALL_MODEL = 5e6  # parameters


@dataclass(frozen=True)
class Resources:
    """What one process and the run's folder need and have; None stands for what is not known."""

    memory: MemoryEstimate | None
    device_memory: int | None  # bytes
    checkpoint: int  # bytes of one checkpoint
    checkpoints: int  # number of checkpoints that can exist at the same time
    disk_free: int  # bytes
    wandb: str  # what happens to W&B's logs


def find_resources(
    recipe: Mapping[str, object],
    hardware: Hardware,
    datamodule: LightningDataModule,
    module: LightningModule,
    folder: Path,
    wandb: str,
    findings: list[LaunchIssue],
    rehearse: bool,
) -> Resources:
    """Return what the run needs and has; add to `findings` what does not suffice."""
    if rank_zero_only.rank:  # rank 0 reports for all ranks
        return Resources(None, None, 0, 0, 0, wandb)
    available = device_memory(hardware.accelerator, hardware.per_node, recipe["trainer"]["device_memory"])
    memory, parameters = None, sum(parameter.numel() for parameter in module.model.parameters())
    if rehearse or hardware.accelerator != "cpu" or parameters >= SMALL_MODEL:
        memory = _estimate_memory(recipe, hardware, datamodule, module, available, findings)
    callbacks = recipe["callbacks"].values()
    kept = sum(_kept(settings) for settings in callbacks if settings["_target_"].endswith("Checkpoint"))
    count = 2 * kept  # each file can exist together with its successor or its predecessor
    size = memory.checkpoint if memory else 4 * _bytes(module.model)  # weights, averages and two moments
    free, notes = check_disk(folder, size * count)
    findings += notes
    return Resources(memory, available, size, count, free, wandb)


def _estimate_memory(
    recipe: Mapping[str, object],
    hardware: Hardware,
    datamodule: LightningDataModule,
    module: LightningModule,
    available: int | None,
    findings: list[LaunchIssue],
) -> MemoryEstimate | None:
    try:
        with isolate_rng():
            memory = estimate_memory(
                module,
                input_shape(module.model, datamodule.img_size),
                hardware.layout,
                datamodule.val_batch_size,
                recipe["trainer"]["precision"],
                gpu=hardware.accelerator == "cuda",
                ddp=hardware.layout.devices > 1,
                kernels=_expects_kernels(hardware, recipe["trainer"].get("gpu_arch")),
            )
    except Exception as error:  # without a shape function an operation can raise anything here, and still train
        text = f"The memory of a step is not known: {type(error).__name__}: {error}"
        findings.append(LaunchIssue("warning", text.split("\n")[0]))
        return None
    findings += check_memory(memory, available)
    return memory


def _expects_kernels(hardware: Hardware, gpu_arch: str | None) -> bool:
    """Return whether kernels=auto chooses Triton's kernels on the GPUs here or, without any, on trainer.gpu_arch."""
    if hardware.accelerator != "cuda" or not has_triton():
        return False
    if torch.cuda.is_available():
        return why_not(torch.device("cuda", 0)) is None
    written = re.fullmatch(r"sm_(\d+)(\d)[af]?", gpu_arch or "")
    return written is not None and tuple(map(int, written.groups())) >= MIN_CAPABILITY


def _kept(settings: Mapping[str, object]) -> int:
    """Return how many files a callback with these settings keeps at least; the callback refuses wrong numbers."""
    number = settings.get("save_top_k")
    return max(1, number) if isinstance(number, int) else 1


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def check_wandb(settings: Mapping[str, object] | None, findings: list[LaunchIssue]) -> str:
    """Return what happens to W&B's logs; add a missing key or a server that does not answer to `findings`."""
    if settings is None:
        return "off"
    try:
        mode = resolve_wandb_mode(settings["mode"])
    except SettingError as error:
        findings.append(LaunchIssue("missing", str(error)))
        return "online, without a key"
    if mode != "online" or rank_zero_only.rank:
        return mode
    server = wandb_server()
    if is_reachable(server):
        return f"online, {server} answers"
    findings.append(
        LaunchIssue(
            "warning",
            f"W&B at {server} does not answer. logger.wandb.mode=offline keeps the run in its folder, from where "
            "`wandb sync` uploads it.",
        )
    )
    return f"online, {server} does not answer"
