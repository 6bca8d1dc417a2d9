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
from soft.launch.fit import restore
from soft.launch.fit_arguments import FitArguments, FitPlan, order_from, plan_fit
from soft.launch.hardware import hardware_of_arguments
from soft.launch.trainer import create_trainer
from soft.launch.words_of_python import in_words_of_python
from soft.monitoring.console import quiet_libraries
from soft.monitoring.csv_logger import CsvLogger
from soft.monitoring.loggers import resume_metrics
from soft.monitoring.progress import TrainingProgress
from soft.monitoring.summary import summarise_run
from soft.runs.best_checkpoint import BestCheckpoint
from soft.runs.checkpointing import LastCheckpoint
from soft.runs.folder import best_checkpoint
from soft.runs.last_checkpoint import newest_checkpoint
from soft.runs.result import read_result, write_result
from soft.runs.resume import Start, start_in
from soft.settings import check_whole
from soft.training.build import carry_metadata
from soft.training.evaluator import ImageEvaluator
from soft.training.inputs import check_inputs, check_num_classes, match_to_model, num_classes_of
from soft.training.module import ImageClassifier

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What a training left.

    Attributes:
        metrics: the last value of every metric, top-k in percent; those of a finished training are read again.
        checkpoint: the best checkpoint, for `soft.load_model`; without a validation the last one, or None.
        seconds: how long the call took.
        trainer: Lightning's Trainer, with the module that was trained.
    """

    metrics: dict[str, float]
    checkpoint: Path | None
    seconds: float
    trainer: Trainer


@in_words_of_python
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
    """Train a model, and write metrics.csv, checkpoints and at the end result.json into `folder`.

    A call with the same arguments as before goes on where the training was stopped. If that was finished, nothing is
    trained: the model gets its weights, and the metrics are those of its end. A training with other arguments needs
    another folder; those of the data and the augmentation count too. What is no number, text or container of them, such
    as a loss, cannot be compared, and neither can the weights that the model begins with.

    Afterwards the model carries the data's class names and preprocessing, for `soft.predict` and `soft.evaluate`. Its
    weights are those of the last step; the checkpoint has their moving average, which is validated, as well.

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
        seed: fixes everything random in training, the order and augmentation of the images among it unless the data
            has a seed of its own (other than 0). The weights at the start are the caller's: `torch.manual_seed` before
            the model is built fixes them.
        resume: `auto` goes on with the training in `folder`, if there is one; a path goes on from that run or
            checkpoint; None begins anew and refuses a folder that holds a training.
        monitor: the metric at whose best value best.ckpt is written.
        accelerator, devices, precision: see `soft.launch.hardware.choose_hardware`; under torchrun or SLURM, `devices`
            has to be as many as the processes, or `auto`.
        max_batch_per_device: images in one forward pass; a larger share of the batch is accumulated over several.
        callbacks: callbacks beside those for checkpoints and progress.
        more_loggers: makes the loggers beside metrics.csv, given the folder's path.
        settings: further entries of the recipe, by which `resume` recognises a training; they replace entries of the
            same name.
        checkpoint_every: optimiser steps between two checkpoints within an epoch; None for one every ten minutes.
        trainer_options: further arguments of Lightning's Trainer, and `max_steps`, at which a training ends as at the
            end of an epoch. The schedule is fitted to a training that they shorten or lengthen.
        options: further arguments of `ImageClassifier`.

    Raises:
        SettingError: an argument that does not fit; the message names it.
    """
    started, folder = time.monotonic(), Path(folder).absolute()
    check_whole("epochs", epochs, low=1)
    check_whole("seed", seed, low=0)
    quiet_libraries()
    data.prepare_data("fit")  # the data may still have the trainer of an evaluation
    data.setup("fit")
    check_inputs(model, data)
    check_num_classes(model, data)
    usual = {"max_epochs": epochs, "gradient_clip_val": 1.0, "enable_model_summary": False}
    call = FitArguments(
        model,
        data,
        folder,
        augment=augment or data.augment,
        optimizer={"opt": "adamw", "weight_decay": 0.05, "lr": lr, **(optimizer or {})},
        schedule={"sched": "cosine", "epochs": epochs, **(schedule or {})},
        devices=dict(
            accelerator=accelerator, devices=devices, precision=precision, max_batch_per_device=max_batch_per_device
        ),
        trainer={**usual, **(trainer_options or {})},
        module={"ema_decay": ema_decay, "ema_warmup": True, "seed": seed, **options},
        monitor=monitor,
        settings=settings or {},
    )
    plan = plan_fit(call)
    minutes = None if checkpoint_every else 10
    last = LastCheckpoint(str(folder / "checkpoints"), minutes, checkpoint_every)
    best = BestCheckpoint(folder / "checkpoints", monitor=monitor)
    callbacks = [*callbacks, last, best, TrainingProgress()]
    seed_everything(seed, workers=True, verbose=False)
    with start_in(folder, resume, plan.recipe) as start, order_from(data, seed):
        trainer, last_values = _train(model, data, plan, folder, start, callbacks, more_loggers, started)
    return Fitted(last_values, best_checkpoint(folder), time.monotonic() - started, trainer)


def _train(
    model: nn.Module,
    data: LightningDataModule,
    plan: FitPlan,
    folder: Path,
    start: Start,
    callbacks: list[Callback],
    more_loggers: Callable[[str], Iterable[Logger]] | None,
    started: float,
) -> tuple[Trainer, dict[str, float]]:
    """Train what is left to train; return the trainer and the last value of every metric."""
    module, loggers = ImageClassifier(model, **plan.module), []
    if not start.finished:
        loggers = [CsvLogger(str(folder)), *(more_loggers(str(folder)) if more_loggers else ())]
        resume_metrics(loggers, start.position)
    trainer = create_trainer(plan.hardware, plan.recipe, callbacks, loggers, **plan.trainer)
    if start.finished:
        restore(trainer, module, newest_checkpoint(folder))
        result = read_result(folder)
    else:
        run_fit(trainer, module, data, plan.facts, start.checkpoint)
        result = summarise_run(trainer, folder, plan.facts, time.monotonic() - started)
        write_result(folder, result)
    carry_metadata(module, data)
    return trainer, result["last"]


@in_words_of_python
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
    num_classes_of(model)
    hardware = hardware_of_arguments(None, accelerator, devices, precision)
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
