"""What an evaluation leaves behind: evaluation.json, and the same facts on the screen."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from timm.layers import to_2tuple

from soft.monitoring.console import print_notes, print_rows
from soft.runs.folder import from_here
from soft.runs.idle_attention import idle_note, show_stages
from soft.studies.run_files import EVALUATION
from soft.training.evaluator import ImageEvaluator
from soft.writing import replace_text


def describe_evaluation(
    trainer: Trainer,
    evaluator: ImageEvaluator,
    datamodule: LightningDataModule,
    checkpoint: str,
    weights: str,
    settings: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    ece: float | None = None,
) -> dict[str, object]:
    """Return the metrics that `trainer.validate` left, with the conditions under which they were measured.

    Args:
        trainer: the Trainer that has validated `evaluator` on `datamodule`.
        checkpoint: file of the weights.
        weights: `ema` or `raw`.
        settings: settings of the model, by their names, that took the place of the checkpoint's.
        notes: sentences that a reader of the result has to know.
        ece: the expected calibration error in percent; None if it was not measured.
    """
    metrics = {name: float(trainer.callback_metrics[f"val/{name}"]) for name in ("top1", "top5", "loss")}
    attention = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("attention/")}
    return {
        **metrics,
        **attention,
        **({} if ece is None else {"ece": ece}),
        "images": evaluator.images,
        "images_per_second": evaluator.images_per_second,
        "model": evaluator.model.pretrained_cfg["architecture"],
        "params": sum(parameter.numel() for parameter in evaluator.model.parameters()),
        "data": datamodule.dataset,
        "img_size": list(to_2tuple(datamodule.img_size)),
        "checkpoint": str(checkpoint),
        "weights": weights,
        "settings": dict(settings or {}),
        "precision": str(trainer.precision),
        "device": str(evaluator.device),
        "devices": trainer.world_size,
        "torch": torch.__version__,
        "notes": [note for note in (*notes, idle_note(attention)) if note],
    }


@rank_zero_only
def write_evaluation(result: Mapping[str, object], folder: Path) -> None:
    """Write evaluation.json into `folder`."""
    replace_text(folder / EVALUATION, json.dumps(result, indent=2) + "\n")


@rank_zero_only
def print_evaluation(
    result: Mapping[str, object],
    folder: Path,
    details: Mapping[str, str] = {},
    example_name: str = "image",
    size_unit: str = "px",
) -> None:
    """Print the content of evaluation.json for a person.

    Args:
        folder: of evaluation.json.
        details: more facts for the screen, by their names.
        example_name, size_unit: what the data calls an example and the unit of its size, for the screen.
    """
    height, width = result["img_size"]
    where = f"{result['devices']} x {result['device']}, {result['precision']}"
    speed = result["images_per_second"]  # a single batch is not timed
    rows = {
        "top-1": f"{result['top1']:.2f} %",
        "top-5": f"{result['top5']:.2f} %",
        "loss": f"{result['loss']:.4f}",
        **({"calibration": f"{result['ece']:.2f} % expected error"} if "ece" in result else {}),
        **details,
        **({"speed": f"{speed:,.0f} {example_name}s/s on {where}"} if speed else {}),
        "data": f"{result['data']}, {result['images']:,} {example_name}s, {height}x{width} {size_unit}",
        "model": f"{result['model']}, {result['params'] / 1e6:.2f} M parameters, {result['weights']} weights",
        **({"attention": attention} if (attention := show_stages(result)) else {}),
        "checkpoint": from_here(Path(result["checkpoint"])),
        "written to": from_here(folder / EVALUATION),
    }
    print_rows(rows)
    print_notes(result["notes"])
