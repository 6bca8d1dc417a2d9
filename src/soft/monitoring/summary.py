"""What a run leaves behind and says at its end: result.json, and its best value with the commands that use it."""

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from soft.hardware.machine import describe_machine
from soft.hardware.memory import peak_memory
from soft.monitoring.console import print_notes, print_rows
from soft.runs.best_checkpoint import BestCheckpoint
from soft.runs.folder import METRICS, as_typed, from_here
from soft.runs.idle_attention import idle_note
from soft.runs.metrics import show_metric
from soft.runs.result import read_metrics


def summarise_run(trainer: Trainer, folder: Path, facts: Mapping[str, object], seconds: float) -> dict[str, object]:
    """Return what result.json holds of a run that has ended.

    `best` is the best value of the monitored metric, and what a sweep compares. `top1` is the validated top-1 in
    percent of the best checkpoint. Without a best checkpoint, both are the last validated top-1. `notes` holds
    sentences on what limits the result's meaning.

    Args:
        trainer: the Trainer at the end of the training.
        folder: the run's folder.
        facts: the facts of the run's plan (`soft.launch.plan.Plan.facts`).
        seconds: seconds since the command started.
    """
    logged = folder / METRICS  # this file also has the metrics from before a resume
    last = {name: values[-1][1] for name, values in read_metrics(logged).items()} if logged.is_file() else {}
    last |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    result = {"top1": last.get("val/top1"), "monitor": "val/top1", "mode": "max", "best": last.get("val/top1")}
    checkpoint = best_checkpoint(trainer)
    if checkpoint is not None:
        result = {
            "top1": checkpoint.best_metrics.get("val/top1", result["top1"]),
            "monitor": checkpoint.monitor,
            "mode": checkpoint.mode,
            "best": float(checkpoint.best_model_score),
        }
        if checkpoint.monitor == "val/top1":
            result["top1"] = result["best"]
    return {
        **result,
        "seconds": seconds,
        "epochs": trainer.current_epoch,
        "peak_memory": peak_memory(trainer.strategy.root_device),
        "last": last,
        "notes": [note for note in (idle_note(last),) if note],
        "facts": dict(facts),
        "environment": describe_machine(trainer.strategy.root_device),
    }


def best_checkpoint(trainer: Trainer) -> BestCheckpoint | None:
    """Return the callback that keeps best.ckpt; None if there is none, or if it has not written one yet."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint) and callback.best_model_score is not None:
            return callback
    return None


@rank_zero_only
def print_result(trainer: Trainer, folder: Path, result: Mapping[str, object]) -> None:
    """Print the best value of a run, its checkpoint and how to evaluate it."""
    rows, checkpoint = {}, best_checkpoint(trainer)
    if checkpoint is not None:
        path = Path(checkpoint.best_model_path)
        path = path if path.name == checkpoint.FILE else path.with_name(checkpoint.FILE)
        rows[f"best {checkpoint.monitor}"] = show_metric(checkpoint.monitor, result["best"])
        if checkpoint.monitor != "val/top1" and result["top1"] is not None:
            rows["its val/top1"] = show_metric("val/top1", result["top1"])
        rows["checkpoint"] = from_here(path)
        rows["evaluate"] = f"python src/evaluate.py {as_typed('checkpoint', path)}"
    elif (last := folder / "checkpoints" / "last.ckpt").is_file():
        if result["top1"] is not None:
            rows["val/top1"] = show_metric("val/top1", result["top1"])
        rows["checkpoint"] = from_here(last)
        rows["evaluate"] = f"python src/evaluate.py {as_typed('checkpoint', last)}"
    elif result["top1"] is not None:
        rows["val/top1"] = show_metric("val/top1", result["top1"])
    rows["page"] = f"python src/report.py {as_typed('run', folder)}"
    if (folder / "curves.png").is_file():
        rows["curves"] = from_here(folder / "curves.png")
    minutes, rest = divmod(round(result["seconds"]), 60)
    rows["time"] = f"{minutes} min {rest} s"
    print_rows(rows)
    print_notes(result["notes"])
