"""Prints the plan of a run: a few lines of it at a launch, all of it in a preflight."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from soft.hardware.layout import RankPlan
from soft.hardware.memory import gib
from soft.hardware.memory_estimate import MemoryEstimate
from soft.hardware.requirements import LaunchIssue
from soft.launch.plan import Plan
from soft.launch.resources import Resources
from soft.monitoring.console import print_rows
from soft.runs.folder import from_here
from soft.training.optim import REFERENCE_BATCH
from soft.writing import replace_text

WIDTH = 80
_HEADINGS = {
    "error": ("The recipe cannot run as it stands", "bold red"),
    "missing": ("Missing on this machine: a launch here fetches it, or is refused", "bold yellow"),
    "warning": ("Warnings", "bold yellow"),
}
_PASSES_SHOWN = 2


@rank_zero_only
def print_plan(plan: Plan, notes: Sequence[str] = (), mask: Callable[[str], str] = str) -> None:
    """Print what a run is about to do, one fact per line, and then the notes.

    Args:
        plan: the run's plan.
        notes: further notes; empty ones are left out.
        mask: function that removes secrets from a text.
    """
    rows = {**_common_rows(plan), "outputs": from_here(plan.folder)}
    if plan.resources.memory is None:
        del rows["memory"]
    print_rows({name: mask(value) for name, value in rows.items()})
    for note in filter(None, [*plan.notes, *(finding.text for finding in plan.findings), *notes]):
        Console().print(Text(f"Note: {mask(note)}"), soft_wrap=True)


@rank_zero_only
def print_preflight(plan: Plan, path: Path, mask: Callable[[str], str] = str) -> None:
    """Print all of a plan, at most 80 columns wide, and write the same to a file at `path`.

    Args:
        plan: the run's plan.
        path: the file.
        mask: function that removes secrets from a text.
    """
    text = io.StringIO()
    for console in (Console(highlight=False), Console(highlight=False, file=text, width=WIDTH)):
        console.width = min(console.width, WIDTH)
        for part in _parts(plan, mask):
            # Sentences are not wrapped, because commands and paths in them could not be copied then.
            console.print(part, soft_wrap=isinstance(part, Text))
    replace_text(path, text.getvalue())


def _common_rows(plan: Plan, full: bool = False) -> dict[str, str]:
    layout, (height, width) = plan.layout, plan.img_size
    if plan.train_images is None:
        images = "size unknown"
    else:
        images = f"{plan.train_images:,} training and {plan.val_images:,} validation {plan.example_name}s"
    length = f"{plan.epochs} epochs"
    if plan.steps is not None:
        length += f" x {plan.steps_per_epoch:,} steps, {plan.steps:,} in all" if full else f", {plan.steps:,} steps"
    return {
        "model": f"{plan.model}, {plan.params / 1e6:.2f} M parameters, {plan.macs / 1e9:.3g} GFLOPs (multiply-adds) "
        f"per {plan.example_name}",
        "data": f"{plan.data}, {images}, {plan.num_classes} classes, {height}x{width} {plan.size_unit}",
        "batch": f"{layout.global_batch} = {layout.devices} {plan.hardware.accelerator} x {layout.per_device} "
        f"{f'{plan.example_name}s' if full else 'per device'} x {layout.accumulate} accumulated, {plan.precision}",
        "learning rate": f"{plan.lr_scaled:.3g} (base {plan.lr:.3g} at batch {REFERENCE_BATCH})",
        "length": length,
        "memory": _memory(plan.resources),
    }


def _parts(plan: Plan, mask: Callable[[str], str]) -> Iterator[RenderableType]:
    digest = Table.grid(padding=(0, 2))
    digest.add_column(style="bold", no_wrap=True)
    digest.add_column()
    for name, value in _preflight_rows(plan):
        digest.add_row(name, mask(value))
    yield from (digest, "", _ranks(plan), "", *_findings(plan.findings, mask))


def _preflight_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    rows, hardware, resources = _common_rows(plan, full=True), plan.hardware, plan.resources
    for name, value in rows.items():
        if name == "batch":
            nodes = f"{hardware.nodes} nodes x " if hardware.nodes > 1 else ""
            arch = f" ({plan.gpu_arch})" if plan.gpu_arch else ""
            yield "hardware", f"trainer={plan.trainer}: {nodes}{hardware.per_node} {hardware.accelerator}{arch}"
        yield name, value
        if name == "data":
            yield from (("", note) for note in plan.notes)
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


def _ranks(plan: Plan) -> Table:
    table = Table(title="What each rank does", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("rank", "node", "local"):
        table.add_column(name, justify="right")
    table.add_column("device", no_wrap=True)
    table.add_column("images in the first step", no_wrap=True)
    table.add_column("passes", justify="right")
    table.add_column("memory", justify="right", no_wrap=True)
    memory = plan.resources.memory
    for rank in plan.ranks:
        numbers = (str(rank.rank), str(rank.node), str(rank.local_rank))
        table.add_row(*numbers, rank.device, _images(rank), str(len(rank.images)), gib(memory.peak) if memory else "?")
    return table


def _images(rank: RankPlan) -> str:
    shown = ", ".join(f"{images.start}-{images.stop - 1}" for images in rank.images[:_PASSES_SHOWN])
    return shown + (" ..." if len(rank.images) > _PASSES_SHOWN else "")


def _findings(findings: list[LaunchIssue], mask: Callable[[str], str]) -> Iterator[Text]:
    for kind, (heading, style) in _HEADINGS.items():
        if texts := [mask(finding.text) for finding in findings if finding.kind == kind]:
            yield Text(heading, style=style)
            yield from (Text(f"- {text}") for text in texts)
    if not findings:
        yield Text("Nothing stands against a launch.", style="bold green")
    elif all(finding.kind != "error" for finding in findings):
        yield Text("The recipe itself is sound.", style="bold green")
