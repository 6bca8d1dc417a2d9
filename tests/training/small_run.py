"""A training that takes seconds in the test's process, is built as in src/train.py, and can be stopped at any hook."""

import copy
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import timm
import torch
from lightning.pytorch import Callback, Trainer

import soft
from soft.data.augmentation import Augmentation
from soft.runs.signals import SIGNALS

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
    global_batch: int = 8,
    max_per_device: int = 4,
    epochs: int = 2,
    model: Mapping[str, object] = {"drop_path_rate": 0.1},
    optimizer: Mapping[str, object] = {"lr": 0.1},
    train_images: int = 28,
    trainer_options: Mapping[str, object] = {},
    **options: object,
) -> Trainer:
    """Train in `folder` with `soft.fit`, and return the trainer.

    By default, an epoch has three steps of two accumulated batches each, and then a validation of two batches.
    """
    warnings.simplefilter("ignore")
    SIGNALS.received = 0
    data = soft.ImageDataModule(
        dataset="fake",
        **dict(img_size=32, num_classes=4, mean=[0.5] * 3, std=[0.3] * 3, crop_pct=1.0, interpolation="bicubic"),
        **dict(hflip=0.0, batch_size=global_batch, val_batch_size=8, num_workers=0, augment=MIXED, seed=1),
        **dict(train_images=train_images, val_images=13, classes=4, source_size=32),
    )
    torch.manual_seed(0)
    network = timm.create_model("soft_pico", num_classes=4, img_size=32, num_landmarks=4, newton_iters=3, **model)
    fitted = soft.fit(
        network,
        data,
        epochs,
        folder,
        accelerator="cpu",
        max_batch_per_device=max_per_device,
        callbacks=callbacks,
        optimizer={"weight_decay": 0.0, **optimizer},
        trainer_options={"log_every_n_steps": 1, **trainer_options},
        **{"ema_decay": 0.9, "ema_warmup": False, "seed": 1, **options},
    )
    return fitted.trainer


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
