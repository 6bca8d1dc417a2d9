"""The arguments of `soft.fit`: their checks, and the recipe by which a training is recognised."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lightning.pytorch import LightningDataModule, Trainer
from timm.layers import to_2tuple
from torch import nn

from soft.data.augmentation import Augmentation
from soft.errors import SettingError
from soft.hardware.layout import check_validation_share
from soft.launch.hardware import Hardware, hardware_of_arguments
from soft.launch.trainer import create_trainer
from soft.launch.trainer_settings import check_trainer_settings
from soft.models.factory import describe_model
from soft.runs.metrics import check_monitored
from soft.settings import check_whole
from soft.training.length import Length, training_length
from soft.training.module import ImageClassifier
from soft.training.optim import scaled_lr

# Fields of an augmentation that the training step reads; the data module reads the others.
_OF_BATCHES = ("mixup", "cutmix", "mixup_prob", "mixup_switch_prob", "label_smoothing")
# Arguments of Lightning's Trainer that `soft.fit` fills in, and its own argument for each, where it has one.
_FILLED_IN = {
    "accelerator": "accelerator",
    "devices": "devices",
    "num_nodes": None,
    "precision": "precision",
    "accumulate_grad_batches": "max_batch_per_device",
    "callbacks": "callbacks",
    "logger": "more_loggers",
    "plugins": None,
    "use_distributed_sampler": None,
    "enable_progress_bar": None,
    "enable_checkpointing": None,
}
# Arguments of `ImageClassifier` that a recipe has in its group `trainer`, and all that have a place of their own in it.
_OF_TRAINER = ("max_steps", "compile", "channels_last")
_GROUPED = {*_OF_TRAINER, "ema_decay", "ema_warmup", "validate_raw", "max_nonfinite_steps", "seed"}
_PLAIN = (type(None), bool, int, float, str, Path, Mapping, list, tuple)


@dataclass(frozen=True)
class FitArguments:
    """The arguments of a call of `soft.fit`, with its defaults filled in.

    Attributes:
        model, data, folder, augment, optimizer, schedule, monitor, settings: as in `soft.fit`; the data is set up.
        devices: arguments of `hardware_of_arguments` after `global_batch`.
        trainer: further arguments of Lightning's Trainer, and `max_steps`.
        module: further arguments of `ImageClassifier`.
    """

    model: nn.Module
    data: LightningDataModule
    folder: Path
    augment: Augmentation
    optimizer: Mapping[str, object]
    schedule: Mapping[str, object]
    devices: Mapping[str, object]
    trainer: Mapping[str, object]
    module: Mapping[str, object]
    monitor: str
    settings: Mapping[str, object]


@dataclass(frozen=True)
class FitPlan:
    """What a call of `soft.fit` trains.

    Attributes:
        recipe: see `describe_arguments`.
        hardware: the devices.
        trainer: further arguments of `soft.launch.trainer.create_trainer`.
        module: arguments of `ImageClassifier` beside the model.
        facts: as in `soft.launch.plan.Plan.facts`.
    """

    recipe: dict[str, object]
    hardware: Hardware
    trainer: dict[str, object]
    module: dict[str, object]
    facts: dict[str, object]


def plan_fit(call: FitArguments) -> FitPlan:
    """Return what a call of `soft.fit` trains, and refuse what a launch of a command refuses.

    Raises:
        SettingError: an argument does not fit.
    """
    check_trainer_options(call.trainer)
    # The max_steps of our module ends with a validation, unlike that of Lightning.
    max_steps = call.module.get("max_steps", call.trainer.get("max_steps", -1))
    trainer = {key: value for key, value in call.trainer.items() if key != "max_steps"}
    call = replace(call, trainer=trainer, module={**call.module, "max_steps": max_steps})
    data, devices, module, epochs = call.data, call.devices, call.module, call.schedule["epochs"]
    recipe = describe_arguments(call)
    check_trainer_settings(recipe["trainer"])
    check_whole("epochs", epochs, low=1)
    check_monitored(call.monitor, bool(module["ema_decay"]), module.get("validate_raw", True))
    hardware = hardware_of_arguments(data.batch_size, **devices)
    check_validation_share(data.val_size, hardware.layout.devices)
    length = training_length(data.train_size, hardware.layout, recipe["trainer"], epochs)
    arguments = {
        "augment": call.augment,
        "optimizer": call.optimizer,
        "schedule": call.schedule,
        "layout": hardware.layout,
        "steps_per_epoch": length.steps_per_epoch,
        "steps": length.steps,
        "recipe": recipe,
        **module,
    }
    facts = describe_facts(recipe, call.model, data, hardware, length)
    return FitPlan(recipe, hardware, {"precision": devices["precision"], **trainer}, arguments, facts)


def check_trainer_options(options: Mapping[str, object]) -> None:
    """Refuse further arguments of Lightning's Trainer that it does not know, or that `soft.fit` fills in itself.

    Raises:
        SettingError: an argument does not fit; the message names the first one.
    """
    known = {*inspect.signature(Trainer).parameters, *inspect.signature(create_trainer).parameters}
    for name in options:
        if name in _FILLED_IN:
            own = _FILLED_IN[name]
            advice = f"use soft.fit's argument {own}" if own else "leave it out"
            raise SettingError(f"trainer_options={{{name!r}: ...}}: soft.fit fills in {name} itself; {advice}.")
        if name not in known:
            raise SettingError(f"trainer_options={{{name!r}: ...}}: Lightning's Trainer has no argument {name}.")


@contextmanager
def order_from(data: LightningDataModule, seed: int) -> Iterator[None]:
    """Let the training images' order and augmentation follow `seed` meanwhile, unless the data has a seed of its own.

    A data module's seed of 0, which is its default, is none of its own.
    """
    own = data.seed
    data.seed = own or seed
    try:
        yield
    finally:
        data.seed = own


def describe_arguments(call: FitArguments) -> dict[str, object]:
    """Return the recipe of a training, in plain containers and in the groups that a command's configuration has.

    What is neither a number, a text, a path nor a container of them is left out.
    """
    model, data = call.model, call.data
    defaults = {name: parameter.default for name, parameter in inspect.signature(ImageClassifier).parameters.items()}
    others = {key: value for key, value in call.module.items() if key not in _GROUPED}
    module = {**defaults, **call.module}
    described = describe_model(model)
    size = sum(parameter.numel() for parameter in model.parameters())
    drawn = replace(data.augment, **{name: getattr(call.augment, name) for name in _OF_BATCHES})
    target = type(data)
    recipe = {
        "output_dir": str(call.folder),
        "model": described,
        # A model that cannot be described is told from others by its class and its size.
        "network": None if described else {"class": type(model).__qualname__, "params": size},
        "data": {"_target_": f"{target.__module__}.{target.__qualname__}", **data.arguments},
        "data_seed": None if data.seed in (0, module["seed"]) else data.seed,
        "augment": asdict(drawn),
        "optimizer": call.optimizer,
        "schedule": call.schedule,
        "ema": {name: module[f"ema_{name}"] for name in ("decay", "warmup")} | {"validate_raw": module["validate_raw"]},
        "trainer": {
            **call.devices,
            **call.trainer,
            **{name: module[name] for name in ("max_steps", "compile", "channels_last")},
        },
        "max_nonfinite_steps": module["max_nonfinite_steps"],
        "seed": module["seed"],
        "options": others or None,
        **call.settings,
    }
    return plain(recipe)


def plain(value: object) -> object:
    """Return numbers, texts and containers of them as JSON and a checkpoint hold them, without any other object."""
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items() if isinstance(entry, _PLAIN)}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value if isinstance(entry, _PLAIN)]
    return value


def describe_facts(
    recipe: Mapping[str, object], model: nn.Module, data: LightningDataModule, hardware: Hardware, length: Length
) -> dict[str, object]:
    """Return named facts that follow from the arguments and the machine, as in `soft.launch.plan.Plan.facts`."""
    layout, lr = hardware.layout, recipe["optimizer"]["lr"]
    return {
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "img_size": list(to_2tuple(data.img_size)),
        "example_name": data.example_name,
        "num_classes": data.num_classes,
        "train_images": data.train_size,
        "val_images": data.val_size,
        "global_batch": layout.global_batch,
        "devices": layout.devices,
        "per_device_batch": layout.per_device,
        "accumulate": layout.accumulate,
        "lr_base": lr,
        "lr_scaled": scaled_lr(lr, layout.global_batch),
        "steps_per_epoch": length.steps_per_epoch,
        "steps": length.steps,
        "epochs": length.epochs,
        "precision": recipe["trainer"]["precision"],
        "accelerator": hardware.accelerator,
        "folder": recipe["output_dir"],
    }
