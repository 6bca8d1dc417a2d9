"""What a run says before and after training."""

import json
import math
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.text import Text
from timm.layers import to_2tuple
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from soft.hardware.layout import BatchLayout
from soft.hardware.machine import describe_machine
from soft.hardware.memory import gib, peak_memory
from soft.training.curves import read_metrics
from soft.training.evaluator import ImageEvaluator
from soft.training.optim import REFERENCE_BATCH, scaled_lr
from soft.training.runs import RESULT, from_here
from soft.training.writing import replace_text


def count_macs(model: nn.Module, image: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one forward pass of one image (C, H, W): what the papers call FLOPs."""
    parameter = next(model.parameters())
    training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *image, device=parameter.device, dtype=parameter.dtype))
    model.train(training)
    return counter.get_total_flops() // 2


def describe_run(
    trainer: Trainer,
    layout: BatchLayout,
    datamodule: LightningDataModule,
    module: LightningModule,
    lr: float,
    folder: Path,
) -> dict[str, object]:
    """Facts that follow from the recipe and the machine, by name: for the screen and the loggers.

    Args:
        lr: the recipe's learning rate at a global batch of 1024.
    """
    height, width = to_2tuple(datamodule.img_size)
    steps = datamodule.steps_per_epoch
    return {
        "params": sum(parameter.numel() for parameter in module.model.parameters()),
        "macs": count_macs(module.model, (3, height, width)),
        "img_size": [height, width],
        "num_classes": datamodule.num_classes,
        "train_images": datamodule.train_size,
        "val_images": datamodule.val_size,
        "global_batch": layout.global_batch,
        "devices": layout.devices,
        "per_device_batch": layout.per_device,
        "accumulate": layout.accumulate,
        "lr_base": lr,
        "lr_scaled": scaled_lr(lr, layout.global_batch),
        "steps_per_epoch": steps,
        "steps": min(steps * trainer.max_epochs, module.max_steps if module.max_steps > 0 else math.inf),
        "epochs": trainer.max_epochs,
        "precision": str(trainer.precision),
        "accelerator": type(trainer.accelerator).__name__.removesuffix("Accelerator").lower(),
        "folder": str(folder),
    }


@rank_zero_only
def print_summary(name: str, data: str, facts: dict[str, object], notes: list[str]) -> None:
    """The facts of `describe_run` for a person, before training."""
    height, width = facts["img_size"]
    rows = {
        "model": f"{name}, {facts['params'] / 1e6:.2f} M parameters, "
        f"{facts['macs'] / 1e9:.3g} GFLOPs (multiply-adds) per image",
        "data": f"{data}, {facts['train_images']:,} training and {facts['val_images']:,} validation images, "
        f"{facts['num_classes']} classes, {height}x{width} px",
        "batch": f"{facts['global_batch']} = {facts['devices']} {facts['accelerator']} x {facts['per_device_batch']} "
        f"per device x {facts['accumulate']} accumulated, {facts['precision']}",
        "learning rate": f"{facts['lr_scaled']:.3g} (base {facts['lr_base']:.3g} at batch {REFERENCE_BATCH})",
        "length": f"{facts['epochs']} epochs, {facts['steps']:,} steps",
        **_memory_row(facts),
        "outputs": from_here(Path(facts["folder"])),
    }
    _print_rows(rows)
    for note in filter(None, notes):
        Console().print(Text(f"Note: {note}"), soft_wrap=True)


def _memory_row(facts: dict[str, object]) -> dict[str, str]:
    if "expected_memory" not in facts:
        return {}
    available = f" of {gib(facts['device_memory'])}" if facts["device_memory"] else ""
    return {"memory": f"≈ {gib(facts['expected_memory'])}{available} per device"}


@rank_zero_only
def write_result(folder: Path, top1: float | None, facts: dict[str, object], trainer: Trainer, seconds: float) -> None:
    """result.json: the best val/top1 in percent, the last value of every metric, the run's facts and its conditions."""
    logged = folder / "metrics.csv"  # has the metrics from before a resume too
    last = {name: values[-1][1] for name, values in read_metrics(logged).items()} if logged.is_file() else {}
    last |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    result = {
        "top1": top1,
        "seconds": seconds,
        "epochs": trainer.current_epoch,
        "peak_memory": peak_memory(trainer.strategy.root_device),
        "last": last,
        "facts": facts,
        "environment": describe_machine(trainer.strategy.root_device),
    }
    replace_text(folder / RESULT, json.dumps(result, indent=2) + "\n")


@rank_zero_only
def write_config(folder: Path, text: str) -> None:
    """config.yaml: everything that was set, resolved."""
    replace_text(folder / "config.yaml", text)


def read_result(folder: Path) -> float | None:
    """The best val/top1 in percent of a run that is finished."""
    return json.loads((folder / RESULT).read_text())["top1"]


@rank_zero_only
def print_result(trainer: Trainer, folder: Path, seconds: float) -> None:
    """The best top-1, its checkpoint and how to evaluate it, after training."""
    checkpoint = trainer.checkpoint_callback
    rows = {}
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
        path = from_here(Path(checkpoint.best_model_path))
        rows["best val/top1"] = f"{float(checkpoint.best_model_score):.2f} %"
        rows["checkpoint"] = path
        rows["evaluate"] = f"python src/evaluate.py checkpoint={path}"
    elif "val/top1" in trainer.callback_metrics:
        rows["val/top1"] = f"{float(trainer.callback_metrics['val/top1']):.2f} %"
    if (folder / "curves.png").is_file():
        rows["curves"] = from_here(folder / "curves.png")
    minutes, rest = divmod(round(seconds), 60)
    rows["time"] = f"{minutes} min {rest} s"
    _print_rows(rows)


def describe_evaluation(
    trainer: Trainer,
    evaluator: ImageEvaluator,
    datamodule: LightningDataModule,
    model: str,
    checkpoint: str,
    weights: str,
) -> dict[str, object]:
    """The metrics that `trainer.validate` left, with the conditions they were measured under."""
    metrics = {name: float(trainer.callback_metrics[f"val/{name}"]) for name in ("top1", "top5", "loss")}
    return {
        **metrics,
        "images": evaluator.images,
        "images_per_second": evaluator.images_per_second,
        "model": model,
        "params": sum(parameter.numel() for parameter in evaluator.model.parameters()),
        "data": datamodule.dataset,
        "img_size": list(to_2tuple(datamodule.img_size)),
        "checkpoint": str(checkpoint),
        "weights": weights,
        "precision": str(trainer.precision),
        "device": str(evaluator.device),
        "devices": trainer.world_size,
        "torch": torch.__version__,
    }


@rank_zero_only
def write_evaluation(result: dict[str, object], folder: str) -> None:
    """evaluation.json in `folder`, and the same for a person."""
    path = Path(folder) / "evaluation.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    height, width = result["img_size"]
    rows = {
        "top-1": f"{result['top1']:.2f} %",
        "top-5": f"{result['top5']:.2f} %",
        "loss": f"{result['loss']:.4f}",
        "speed": f"{result['images_per_second']:,.0f} images/s on {result['devices']} x {result['device']}, "
        f"{result['precision']}",
        "data": f"{result['data']}, {result['images']:,} images, {height}x{width} px",
        "model": f"{result['model']}, {result['params'] / 1e6:.2f} M parameters, {result['weights']} weights",
        "checkpoint": from_here(Path(result["checkpoint"])),
        "written to": from_here(path),
    }
    _print_rows(rows)


def best_top1(trainer: Trainer) -> float | None:
    """Best val/top1 in percent: the checkpoint's, else the last one logged."""
    checkpoint = trainer.checkpoint_callback
    if isinstance(checkpoint, ModelCheckpoint) and checkpoint.best_model_score is not None:
        return float(checkpoint.best_model_score)
    value = trainer.callback_metrics.get("val/top1")
    return None if value is None else float(value)


def _print_rows(rows: dict[str, str]) -> None:
    # Plain lines of any length: a path or command that a table breaks over lines cannot be copied.
    width = max(map(len, rows))
    for name, value in rows.items():
        line = Text.assemble((f"{name:<{width}}", "bold"), "  ", value)
        Console().print(line, soft_wrap=True)
