"""Training and evaluation in a few lines of Python, without configuration files: `soft.fit` and `soft.evaluate`."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from torch import nn

from soft.data.augmentation import Augmentation
from soft.data.classification import ClassificationDataModule
from soft.hardware.layout import check_validation_share
from soft.launch.fit import fit as run_fit
from soft.launch.hardware import choose_hardware
from soft.launch.trainer import create_trainer
from soft.models.factory import describe_model
from soft.monitoring.console import quiet_libraries
from soft.monitoring.csv_logger import CsvLogger
from soft.monitoring.loggers import resume_metrics
from soft.monitoring.progress import TrainingProgress
from soft.runs.best_checkpoint import BestCheckpoint
from soft.runs.checkpointing import LastCheckpoint
from soft.runs.resume import start_in
from soft.training.evaluator import ImageEvaluator
from soft.training.inputs import check_inputs, check_num_classes, match_to_model, outputs_of
from soft.training.module import ImageClassifier

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What a training left.

    Attributes:
        metrics: the last value of every metric, top-k in percent.
        checkpoint: the best checkpoint, for `soft.load_model`; None if nothing was trained.
        seconds: how long the call took.
        trainer: Lightning's Trainer, with the module that was trained.
    """

    metrics: dict[str, float]
    checkpoint: Path | None
    seconds: float
    trainer: Trainer


def fit(
    model: nn.Module,
    data: LightningDataModule,
    epochs: int = 1,
    folder: str | Path = "outputs/notebook",
    *,
    lr: float = 1.6e-2,
    optimizer: Mapping[str, object] | None = None,
    schedule: Mapping[str, object] | None = None,
    augment: Augmentation | None = None,
    ema_decay: float = 0.998,
    seed: int = 0,
    resume: str | None = "auto",
    monitor: str = "val/top1",
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    precision: str = "32-true",
    max_batch_per_device: int = 128,
    callbacks: Iterable[Callback] = (),
    more_loggers: Callable[[str], Iterable[Logger]] | None = None,
    settings: Mapping[str, object] | None = None,
    checkpoint_every: int | None = None,
    trainer_options: Mapping[str, object] | None = None,
    **options: object,
) -> Fitted:
    """Train a model, and write metrics.csv and checkpoints into `folder`.

    A call with the same arguments as before goes on where the training was stopped; a training with other settings
    needs another folder.

    Args:
        model: a SOFT model, or any classifier (B, 3, H, W) -> (B, num_classes) with an attribute `num_classes`
            that is the number of the data's classes, which `data.num_classes` says after `data.setup()`.
        data: an `ImageDataModule`, or for a `soft_encoder` a `TaskDataModule`.
        epochs: passes over the training data.
        lr: learning rate at a global batch of 1024, to which the data's batch size is scaled.
        optimizer: further arguments of `soft.training.optim.build_optimizer`; AdamW with weight decay 0.05 by default.
        schedule: further arguments of `soft.training.optim.build_scheduler`; cosine by default.
        augment: mixup, cutmix and label smoothing; None takes the data's.
        ema_decay: decay of the weights' moving average per step, 0 for none.
        seed: fixes everything random in training.
        resume: `auto` goes on with the training in `folder`, if there is one; a path goes on from that run or
            checkpoint; None begins anew and refuses a folder that holds a training.
        monitor: the metric at whose best value best.ckpt is written.
        accelerator, devices, precision: see `soft.launch.hardware.choose_hardware`.
        max_batch_per_device: images in one forward pass; a larger share of the batch is accumulated over several.
        callbacks: callbacks beside those for checkpoints and progress.
        more_loggers: makes the loggers beside metrics.csv, given the folder's path.
        settings: further entries of the recipe, by which `resume` recognises a training; they replace entries of the
            same name.
        checkpoint_every: optimiser steps between two checkpoints within an epoch; None for one every ten minutes.
        trainer_options: further arguments of Lightning's Trainer.
        options: further arguments of `ImageClassifier`.

    Raises:
        SettingError: an argument that does not fit; the message names it.
    """
    started, folder = time.monotonic(), Path(folder).absolute()
    quiet_libraries()
    data.prepare_data("fit")  # the data may still have the trainer of an evaluation
    data.setup("fit")
    check_inputs(model, data)
    check_num_classes(model, data)
    augment = augment or data.augment
    optimizer = {"opt": "adamw", "weight_decay": 0.05, "lr": lr, **(optimizer or {})}
    schedule = {"sched": "cosine", "epochs": epochs, **(schedule or {})}
    hardware = choose_hardware(
        data.batch_size, "trainer", accelerator, devices, precision=precision, max_batch_per_device=max_batch_per_device
    )
    recipe = {
        "output_dir": str(folder),
        "model": describe_model(model),
        "data": {"dataset": data.dataset, "img_size": data.img_size, "batch_size": data.batch_size},
        "optimizer": optimizer,
        "schedule": schedule,
        "ema": {"decay": ema_decay},
        "trainer": {"precision": precision, "max_batch_per_device": max_batch_per_device},
        "seed": seed,
        **(settings or {}),
    }
    seed_everything(seed, workers=True, verbose=False)
    with start_in(folder, resume, recipe) as start:
        module = ImageClassifier(
            model,
            augment,
            optimizer,
            schedule,
            hardware.layout,
            data.steps_per_epoch,
            **{"ema_decay": ema_decay, "ema_warmup": True, "seed": seed, "recipe": recipe, **options},
        )
        loggers = [CsvLogger(str(folder)), *(more_loggers(str(folder)) if more_loggers else ())]
        resume_metrics(loggers, start.position)
        minutes = None if checkpoint_every else 10
        last = LastCheckpoint(str(folder / "checkpoints"), minutes, checkpoint_every)
        best = BestCheckpoint(folder / "checkpoints", monitor=monitor)
        trainer = create_trainer(
            hardware,
            recipe,
            [*callbacks, last, best, TrainingProgress()],
            loggers,
            precision=precision,
            **{
                "max_epochs": epochs,
                "gradient_clip_val": 1.0,
                "enable_model_summary": False,
                **(trainer_options or {}),
            },
        )
        if not start.finished:
            run_fit(trainer, module, data, {}, start.checkpoint)
    path = Path(best.best_model_path) if best.best_model_path else None
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return Fitted(metrics, path, time.monotonic() - started, trainer)


def evaluate(
    model: nn.Module,
    data: LightningDataModule,
    *,
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    precision: str = "32-true",
) -> dict[str, float]:
    """Return top1 and top5 in percent and the loss in nats of a model over all validation images.

    The classes of the data are found among the model's by their names, where the model names its classes, as one from
    `soft.load_model` does. A note in the log says where their order, their number or the preprocessing differs.

    Args:
        model: a classifier (B, 3, H, W) -> (B, num_classes) with an attribute `num_classes`.
        data: an `ImageDataModule` with the preprocessing that the model was trained with, or a `TaskDataModule`.
        accelerator, devices, precision: see `soft.launch.hardware.choose_hardware`.

    Raises:
        SettingError: an argument does not fit, or the data has classes that the model does not know.
    """
    quiet_libraries()
    check_inputs(model, data)
    outputs_of(model)
    hardware = choose_hardware(None, "trainer", accelerator, devices, precision=precision)
    indices = None
    if isinstance(data, ClassificationDataModule):
        data.prepare_data("validate")
        data.setup("validate")
        check_validation_share(data.val_size, hardware.layout.devices)
        indices, notes = match_to_model(model, data)
        for note in notes:
            log.warning("%s", note)
    trainer = create_trainer(hardware, precision=precision, enable_model_summary=False)
    trainer.validate(ImageEvaluator(model, indices), data, verbose=False)
    return {name: float(trainer.callback_metrics[f"val/{name}"]) for name in ("top1", "top5", "loss")}
