"""Sends an evaluation to W&B, as numbers, tables and pictures, and to TensorBoard, as numbers and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from soft.analysis.evaluation_files import (
    CONFUSION_PICTURE,
    MISTAKES,
    PER_CLASS,
    PREDICTIONS,
    read_confusion,
    read_rows,
)
from soft.hardware.machine import describe_machine
from soft.monitoring.loggers import finish_loggers, settings_to_filter, tags_of
from soft.monitoring.wandb_logger import WandbRunLogger
from soft.runs.folder import read_mark, run_folder

MAX_ROWS = 200_000  # rows of a table that W&B keeps
JOB_TYPE = "evaluation"


def evaluation_conditions(checkpoint: str, weights: str, command: str, device: torch.device) -> dict[str, object]:
    """Return what loggers keep of an evaluation besides settings: the checkpoint and its W&B run, command, machine."""
    training = run_folder(Path(checkpoint).expanduser().absolute())
    mark = read_mark(training) if training else None
    return {
        "checkpoint": str(checkpoint),
        "weights": weights,
        **({"trained_as": mark["id"]} if mark else {}),
        "environment": describe_machine(device),
        "command": command,
    }


@contextmanager
def evaluation_loggers(
    loggers: Iterable[Logger],
    recipe: Mapping[str, object],
    conditions: Mapping[str, object],
    name: str,
    group: str | None = None,
) -> Iterator[list[Logger]]:
    """Name the evaluation's runs and log its settings; close the loggers at the end of the context.

    Args:
        recipe: the recipe that the model was trained with, with the evaluation's settings in place of recorded ones.
        conditions: the conditions of the evaluation, such as `checkpoint` and `weights`.
        name: the evaluation's name in W&B, if the logger's settings leave that open.
        group: the sweep to which the evaluation belongs; None for a single one.
    """
    loggers = list(loggers)
    for logger in loggers:
        if isinstance(logger, WandbRunLogger):
            logger.begin_new_run()
            logger.name_run(name, group, tags_of(recipe), job_type=JOB_TYPE)
    with finish_loggers(loggers):
        for logger in loggers:
            logger.log_hyperparams({**settings_to_filter(recipe), **conditions})
        yield loggers


@rank_zero_only
def log_evaluation(loggers: Iterable[Logger], result: Mapping[str, object], folder: Path, details: bool) -> list[str]:
    """Log an evaluation, from evaluation.json's content and from the files beside it.

    Args:
        details: whether the files of details in `folder` belong to this evaluation.

    Returns:
        sentences about what was left out. Ranks other than 0 log nothing and get None.
    """
    numbers = {key: value for key, value in result.items() if isinstance(value, int | float)}
    pictures = {"confusion_matrix": folder / CONFUSION_PICTURE, "mistakes": folder / MISTAKES}
    pictures = {key: path for key, path in pictures.items() if details and path.is_file()}
    notes: list[str] = []
    for logger in loggers:
        if isinstance(logger, WandbRunLogger) and not logger.disabled:
            import wandb

            tables = _tables(folder, notes) if details else {}
            images = {key: wandb.Image(str(path)) for key, path in pictures.items()}
            logger.experiment.log({**numbers, **tables, **images})
        elif isinstance(logger, TensorBoardLogger):
            logger.log_metrics({f"{JOB_TYPE}/{key}": value for key, value in numbers.items()}, step=0)
            for key, path in pictures.items():
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                logger.experiment.add_image(f"{JOB_TYPE}/{key}", pixels, 0, dataformats="HWC")
    return notes


def _tables(folder: Path, notes: list[str]) -> dict[str, object]:
    """Return W&B's tables of classes, confusions and predictions; add a sentence on rows that are left out."""
    import wandb

    tables = {}
    for key, file in (("per_class", PER_CLASS), ("predictions", PREDICTIONS)):
        rows = read_rows(folder, file)
        if file == PREDICTIONS:  # the most confident mistakes come first
            rows.sort(key=lambda row: (row["label"] == row["class"], -row["probability"]))
        if len(rows) > MAX_ROWS:
            notes.append(f"W&B has {MAX_ROWS:,} of the {len(rows):,} predictions, the mistakes first; {file} has all.")
        data = [list(row.values()) for row in rows[:MAX_ROWS]]
        tables[key] = wandb.Table(columns=list(rows[0]) if rows else [], data=data)
    if matrix := read_confusion(folder):
        places = zip(*matrix.counts.nonzero(), strict=True)
        data = [[matrix.rows[i], matrix.columns[j], int(matrix.counts[i, j])] for i, j in places]
        tables["confusion"] = wandb.Table(columns=["class", "answer", "images"], data=data)
    return tables
