"""The preflight for a person: at most 80 columns, on a terminal, in a pipe and in a file."""

from collections.abc import Callable, Iterator
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from soft.hardware.layout import RankPlan
from soft.hardware.memory import gib
from soft.hardware.memory_estimate import MemoryEstimate
from soft.hardware.requirements import Finding
from soft.training.optim import REFERENCE_BATCH
from soft.training.preflight import Preflight, Resources

WIDTH = 80
_HEADINGS = {
    "error": ("The recipe cannot run as it stands", "bold red"),
    "missing": ("Missing on this machine: a launch here would be refused, or fetch it", "bold yellow"),
    "warning": ("Warnings", "bold yellow"),
}
_PASSES_SHOWN = 2


@rank_zero_only
def print_preflight(preflight: Preflight, path: Path, mask: Callable[[str], str] = str) -> None:
    """The whole report on standard output, and in a file at `path`; `mask` takes out secrets."""
    with path.open("w") as file:
        for console in (Console(highlight=False), Console(highlight=False, file=file, width=WIDTH)):
            console.width = min(console.width, WIDTH)
            for part in _parts(preflight, mask):
                # Commands and paths that are broken over lines cannot be copied, so sentences are not.
                console.print(part, soft_wrap=isinstance(part, Text))


def _parts(preflight: Preflight, mask: Callable[[str], str]) -> Iterator[RenderableType]:
    digest = Table.grid(padding=(0, 2))
    digest.add_column(style="bold", no_wrap=True)
    digest.add_column()
    for name, value in _rows(preflight):
        digest.add_row(name, mask(value))
    yield from (digest, "", _ranks(preflight), "", *_findings(preflight.findings, mask))


def _rows(preflight: Preflight) -> Iterator[tuple[str, str]]:
    facts, hardware, resources = preflight.facts, preflight.hardware, preflight.resources
    height, width = facts["img_size"]
    yield "model", f"{facts['model']}, {facts['params'] / 1e6:.2f} M parameters"
    images = (
        "size unknown"
        if facts["train_images"] is None
        else f"{facts['train_images']:,} training and {facts['val_images']:,} validation images"
    )
    yield "data", f"{facts['data']}, {images}, {facts['num_classes']} classes, {height}x{width} px"
    for note in facts["data_notes"]:
        yield "", note
    nodes = f"{hardware.nodes} nodes x " if hardware.nodes > 1 else ""
    arch = f" ({facts['gpu_arch']})" if facts["gpu_arch"] else ""
    yield "hardware", f"trainer={facts['trainer']}: {nodes}{hardware.per_node} {hardware.accelerator}{arch}"
    layout = hardware.layout
    yield (
        "batch",
        f"{layout.global_batch} = {layout.devices} {hardware.accelerator} x {layout.per_device} images "
        f"x {layout.accumulate} accumulated, {facts['precision']}",
    )
    yield (
        "learning rate",
        f"{facts['lr_scaled']:.3g} (base {facts['lr_base']:.3g} at batch {REFERENCE_BATCH}, scaled linearly)",
    )
    per_epoch = f"{facts['epochs']} epochs x {facts['steps_per_epoch']:,} steps" if facts["steps_per_epoch"] else None
    yield "length", f"{per_epoch}, {facts['steps']:,} in all" if per_epoch else f"{facts['epochs']} epochs"
    yield "memory", _memory(resources)
    if resources.memory is not None:
        yield "", _shares(resources.memory)
    yield (
        "checkpoints",
        f"{gib(resources.checkpoint)} each, up to {resources.checkpoints} at a time; {gib(resources.disk_free)} free",
    )
    yield "W&B", resources.wandb


def _memory(resources: Resources) -> str:
    if resources.memory is None:
        return "unknown"
    available = "" if resources.device_memory is None else f" of {gib(resources.device_memory)}"
    return f"≈ {gib(resources.memory.peak)}{available} per device"


def _shares(memory: MemoryEstimate) -> str:
    parts = {
        "process": memory.process,
        "weights": memory.weights,
        "averages": memory.averages,
        "optimizer": memory.optimizer,
        "gradients": memory.gradients,
        "activations": memory.activations,
    }
    training = " + ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
    return f"training {gib(memory.training)} = {training}; validation {gib(memory.validation)}"


def _ranks(preflight: Preflight) -> Table:
    table = Table(title="What each rank does", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("rank", "node", "local"):
        table.add_column(name, justify="right")
    table.add_column("device", no_wrap=True)
    table.add_column("its images of the first step", no_wrap=True)
    table.add_column("passes", justify="right")
    table.add_column("memory", justify="right", no_wrap=True)
    memory = preflight.resources.memory
    for rank in preflight.ranks:
        numbers = (str(rank.rank), str(rank.node), str(rank.local_rank))
        table.add_row(*numbers, rank.device, _images(rank), str(len(rank.images)), gib(memory.peak) if memory else "?")
    return table


def _images(rank: RankPlan) -> str:
    shown = ", ".join(f"{images.start}-{images.stop - 1}" for images in rank.images[:_PASSES_SHOWN])
    return shown + (" ..." if len(rank.images) > _PASSES_SHOWN else "")


def _findings(findings: list[Finding], mask: Callable[[str], str]) -> Iterator[Text]:
    for kind, (heading, style) in _HEADINGS.items():
        if texts := [mask(finding.text) for finding in findings if finding.kind == kind]:
            yield Text(heading, style=style)
            yield from (Text(f"- {text}") for text in texts)
    if not findings:
        yield Text("Nothing stands against a launch.", style="bold green")
    elif all(finding.kind != "error" for finding in findings):
        yield Text("The recipe itself is sound.", style="bold green")
