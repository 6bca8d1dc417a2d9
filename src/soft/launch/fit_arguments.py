"""The arguments of `soft.fit`: their checks, the recipe by which a training is recognised, and their names."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path

from lightning.pytorch import LightningDataModule, Trainer
from timm.layers import to_2tuple
from torch import nn

from soft.data.augmentation import Augmentation
from soft.errors import RunError, SettingError
from soft.hardware.launcher import find_launch
from soft.launch.hardware import Hardware, choose_hardware
from soft.launch.trainer import create_trainer
from soft.models.factory import describe_model
from soft.training.length import Length
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
# Settings of the commands in messages, and what they are in Python; the first pattern that matches a place is taken.
_NAMES = {
    r"; without resume=\.\.\., this command begins another run in a folder of its own": ", or choose another folder",
    r", or take trainer=cpu_ddp, which allows it": "",
    r"callbacks\.last_checkpoint\.every_n_train_steps": "checkpoint_every",
    r"another folder with hydra\.run\.dir": "another folder",
    r"hydra\.run\.dir": "folder",
    r"schedule\.epochs": "epochs",
    r"optimizer\.lr\b": "lr",
    r"ema\.decay": "ema_decay",
    r"\bema\.validate_raw=true": "validate_raw=True",
    r"trainer=trainer\b": "This call",
    r"trainer=auto\b": "accelerator='auto'",
    r"(?<![/\w])trainer\.(?!py\b)(?=\w)": "",
}
_NAME = re.compile("|".join(f"({pattern})" for pattern in _NAMES))
# Arguments of `ImageClassifier` that have a place of their own in a recipe.
_GROUPED = {"ema_decay", "ema_warmup", "validate_raw", "max_steps", "compile", "channels_last", "max_nonfinite_steps"}
_PLAIN = (type(None), bool, int, float, str, Path, Mapping, list, tuple)


def in_words_of_python(function: Callable) -> Callable:
    """Return a function that does the same, and whose error messages name its arguments, not a command's settings."""
    words = list(_NAMES.values())

    def translate(text: str) -> str:
        return _NAME.sub(lambda match: words[match.lastindex - 1], text)

    @wraps(function)
    def call(*arguments: object, **options: object) -> object:
        try:
            return function(*arguments, **options)
        except (SettingError, RunError) as error:
            error.args, error.message = (translate(str(error)),), translate(error.message)
            raise

    return call


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


def choose_for_call(
    global_batch: int | None,
    accelerator: str,
    devices: int | str | list[int],
    precision: str,
    max_batch_per_device: int = 128,
) -> Hardware:
    """Return the hardware that the arguments of a call ask for, see `choose_hardware`.

    Raises:
        SettingError: an argument does not fit, or a launcher has started another number of processes.
    """
    hardware = choose_hardware(
        global_batch, "trainer", accelerator, devices, precision=precision, max_batch_per_device=max_batch_per_device
    )
    launch, asked = find_launch(), (hardware.per_node, hardware.nodes)
    if launch is not None and launch.by != "Lightning" and (launch.per_node, launch.nodes) != asked:
        raise SettingError(
            f"{launch.by} started {launch.per_node} processes on each of {launch.nodes} nodes, and devices={devices!r} "
            f"is for {hardware.per_node}; give devices='auto'."
        )
    return hardware


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


def describe_arguments(
    model: nn.Module,
    data: LightningDataModule,
    folder: Path,
    *,
    augment: Augmentation,
    optimizer: Mapping[str, object],
    schedule: Mapping[str, object],
    trainer: Mapping[str, object],
    module: Mapping[str, object],
    settings: Mapping[str, object],
) -> dict[str, object]:
    """Return the recipe of a training, in plain containers and in the groups that a command's configuration has.

    What is neither a number, a text, a path nor a container of them is left out.

    Args:
        model, data, folder, augment, optimizer, schedule, settings: as in `soft.fit`; the data is set up.
        trainer: arguments of Lightning's Trainer and of `choose_hardware`.
        module: arguments of `ImageClassifier` after `steps_per_epoch`.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(ImageClassifier).parameters.items()}
    others = {key: value for key, value in module.items() if key not in {*_GROUPED, "seed"}}
    module = {**defaults, **module}
    described = describe_model(model)
    size = sum(parameter.numel() for parameter in model.parameters())
    drawn = replace(data.augment, **{name: getattr(augment, name) for name in _OF_BATCHES})
    target = type(data)
    recipe = {
        "output_dir": str(folder),
        "model": described,
        # A model that cannot be described is told from others by its class and its size.
        "network": None if described else {"class": type(model).__qualname__, "params": size},
        "data": {"_target_": f"{target.__module__}.{target.__qualname__}", **data.arguments},
        "data_seed": None if data.seed in (0, module["seed"]) else data.seed,
        "augment": asdict(drawn),
        "optimizer": optimizer,
        "schedule": schedule,
        "ema": {name: module[f"ema_{name}"] for name in ("decay", "warmup")} | {"validate_raw": module["validate_raw"]},
        "trainer": {**trainer, **{name: module[name] for name in ("max_steps", "compile", "channels_last")}},
        "max_nonfinite_steps": module["max_nonfinite_steps"],
        "seed": module["seed"],
        "options": others or None,
        **settings,
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
