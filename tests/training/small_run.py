"""A training that takes seconds in the test's process, is built as in src/train.py, and can be stopped at any hook."""

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import timm
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

import soft  # noqa: F401 - registers the models
from soft.data.augmentation import Augmentation
from soft.data.datamodule import ImageDataModule
from soft.launch.hardware import choose_hardware
from soft.launch.trainer import create_trainer
from soft.monitoring.console import quiet_libraries
from soft.monitoring.csv_logger import CsvLogger
from soft.monitoring.loggers import finish_loggers, resume_metrics
from soft.runs.best_checkpoint import BestCheckpoint
from soft.runs.checkpointing import LastCheckpoint
from soft.runs.resume import start_in
from soft.runs.signals import SIGNALS
from soft.training.module import ImageClassifier

MIXED = Augmentation(hflip=0.5, mixup=0.8, cutmix=1.0, label_smoothing=0.1)


class Hook(Callback):
    """Callback that calls `act(trainer, module, batch)` the `count`-th time that the hook `name` runs.

    Calls during the sanity check are not counted.
    """

    def __init__(self, name: str, count: int, act):
        def call(trainer, module, *arguments, **_) -> None:
            self.left -= not trainer.sanity_checking
            if self.left == 0:
                act(trainer, module, next((value for value in arguments if isinstance(value, (list, tuple))), None))

        self.left = count
        setattr(self, name, call)


def train(
    folder: Path,
    *callbacks: Callback,
    resume: str | None = "auto",
    settings: Mapping[str, object] = {},
    global_batch: int = 8,
    max_per_device: int = 4,
    epochs: int = 2,
    checkpoint_every: int | None = None,
    model: Mapping[str, object] = {"drop_path_rate": 0.1},
    optimizer: Mapping[str, object] = {"opt": "adamw", "lr": 0.1},
    schedule: Mapping[str, object] = {"sched": "cosine"},
    train_images: int = 28,
    trainer_options: Mapping[str, object] = {},
    more_loggers: Callable[[str], Iterable[Logger]] = lambda folder: (),
    **options: object,
) -> Trainer:
    """Train in `folder`, and return the trainer.

    By default, an epoch has three steps of two accumulated batches each, and then a validation of two batches.
    """
    warnings.simplefilter("ignore")
    quiet_libraries()
    recipe = {"output_dir": str(folder), **settings}
    SIGNALS.received = 0
    with start_in(folder, resume, recipe) as start:
        loggers = [CsvLogger(str(folder)), *more_loggers(str(folder))]
        resume_metrics(loggers, start.position)
        checkpoints = folder / "checkpoints"
        hardware = choose_hardware(global_batch, accelerator="cpu", devices=1, max_batch_per_device=max_per_device)
        trainer = create_trainer(
            hardware,
            callbacks=[
                *callbacks,
                LastCheckpoint(str(checkpoints), every_n_minutes=None, every_n_train_steps=checkpoint_every),
                BestCheckpoint(checkpoints),
            ],
            logger=loggers,
            max_epochs=epochs,
            gradient_clip_val=1.0,
            log_every_n_steps=1,
            enable_model_summary=False,
            **trainer_options,
        )
        data = ImageDataModule(
            **dict(dataset="fake", img_size=32, num_classes=4, mean=[0.5] * 3, std=[0.3] * 3, crop_pct=1.0),
            **dict(interpolation="bicubic", hflip=0.0, batch_size=global_batch, val_batch_size=8, num_workers=0),
            **dict(augment=MIXED, seed=1, train_images=train_images, val_images=13, classes=4, source_size=32),
        )
        data.setup("fit")
        torch.manual_seed(0)
        module = ImageClassifier(
            timm.create_model("soft_pico", num_classes=4, img_size=32, num_landmarks=4, newton_iters=3, **model),
            MIXED,
            optimizer,
            {"epochs": epochs, **schedule},
            hardware.layout,
            data.steps_per_epoch,
            **{"ema_decay": 0.9, "seed": 1, "recipe": recipe, **options},
        )
        with finish_loggers(loggers):
            trainer.fit(module, data, ckpt_path=start.checkpoint, weights_only=True)
    return trainer


def outcome(trainer: Trainer) -> dict[str, object]:
    """Return everything that has to be the same, to the bit, after two runs of the same settings."""
    module = trainer.lightning_module
    return {
        "weights": copy.deepcopy(module.state_dict()),
        "optimizer": copy.deepcopy(module._optimizer.state_dict()),
        "best": float(trainer.checkpoint_callback.best_model_score),
        "metrics": (Path(trainer.loggers[0].log_dir) / "metrics.csv").read_text(),
    }


def unequal(ours: object, theirs: object, name: str = "") -> Iterable[str]:
    """Yield the names of the parts in which two outcomes differ."""
    if isinstance(ours, Mapping):
        if ours.keys() != theirs.keys():
            yield f"{name} keys"
        for key in ours.keys() & theirs.keys():
            yield from unequal(ours[key], theirs[key], f"{name}.{key}")
    elif isinstance(ours, (list, tuple)):
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            yield from unequal(a, b, f"{name}.{number}")
    elif not (torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs):
        yield name
