"""Builds the module of a training from a recipe or a checkpoint, and describes the weights that a checkpoint holds."""

from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from timm.layers import to_2tuple

from soft.data.augmentation import Augmentation
from soft.data.classes import check_order, unnamed_order
from soft.errors import SettingError, first_few
from soft.hardware.layout import BatchLayout
from soft.models.factory import create_from_config, describe_model, without_kernels
from soft.models.freezing import freeze
from soft.models.metadata import KEY, Metadata, attach_metadata, metadata_of
from soft.training.length import Length
from soft.training.loss import build_loss, find_class_weights
from soft.training.warm_start import warm_start

_METADATA = ("dataset", "class_names", "img_size", "mean", "std", "crop_pct", "interpolation")


def build_module(
    module_class: type[LightningModule],
    recipe: Mapping[str, object],
    augment: Augmentation,
    img_size: int | tuple[int, int],
    num_classes: int,
    layout: BatchLayout,
    length: Length | None,
    datamodule: LightningDataModule | None = None,
    checkpoint: str | None = None,
) -> LightningModule:
    """Return the module that a recipe trains.

    Args:
        module_class: `ImageClassifier`, or a class that takes the same arguments.
        recipe: the resolved configuration, in plain containers: its groups `model`, `finetune`, `loss`, `optimizer`,
            `schedule`, `ema` and `trainer`, its `seed` and `max_nonfinite_steps`.
        augment: what happens to training images.
        img_size: pixels, or (height, width).
        num_classes: number of the model's outputs.
        layout: how the global batch lies over devices and accumulated passes.
        length: length of the training; None if it is not known, because the data is not here.
        datamodule: the data, which names and counts the classes; None for a module that is not going to be trained.
        checkpoint: weights to begin with, see `soft.training.warm_start`; None for random ones. Needs `datamodule`.

    Raises:
        SettingError: a setting does not fit, such as one of `finetune` without a checkpoint.
    """
    # In older recipes, `recipe` inside these groups holds values for other groups.
    optimizer, schedule = (
        {key: value for key, value in recipe[group].items() if key != "recipe"} for group in ("optimizer", "schedule")
    )
    ema, trainer = recipe["ema"], recipe["trainer"]
    model, train_loss, notes = create_from_config(recipe["model"], num_classes, img_size), None, []
    if datamodule is not None:
        finetune, loss = recipe["finetune"], recipe["loss"]
        if recipe["checkpoint"] is None and any(finetune.values()):
            name, value = next((name, value) for name, value in finetune.items() if value)
            raise SettingError(f"finetune.{name}={value} is for trained weights; name them with checkpoint=PATH.")
        if checkpoint is not None:
            names = getattr(datamodule, "class_names", None)
            notes.append(warm_start(model, checkpoint, names, datamodule.dataset, finetune["new_head"]))
        notes.append(freeze(model, finetune["freeze"], finetune["freeze_batchnorm"]))
        # A preflight may run without the data; then all classes count the same.
        counts = [1] * num_classes if datamodule.sets is None else datamodule.class_counts
        weights = find_class_weights(loss["class_weights"], num_classes, counts)
        train_loss = build_loss(augment, loss["name"], weights)
    module = module_class(
        model,
        augment,
        optimizer,
        schedule,
        layout,
        length.steps_per_epoch if length else 1,
        ema_decay=ema["decay"],
        ema_warmup=ema["warmup"],
        validate_raw=ema["validate_raw"],
        seed=recipe["seed"],
        max_steps=trainer["max_steps"],
        max_nonfinite_steps=recipe["max_nonfinite_steps"],
        recipe=recipe,
        compile=trainer["compile"],
        channels_last=trainer["channels_last"],
        steps=length.steps if length else None,
        train_loss=train_loss,
    )
    module.notes = [note for note in notes if note]
    return module


def load_module(module_class: type[LightningModule], path: str | Path) -> LightningModule:
    """Return the module that wrote a checkpoint, in evaluation mode, with its weights and their average.

    Raises:
        SettingError: the file cannot be read, or was not written by a training.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        recipe, weights = checkpoint["recipe"], checkpoint["state_dict"]
        recipe = {**recipe, "model": without_kernels(recipe["model"])}
        augment = {key: value for key, value in recipe["augment"].items() if not key.startswith("_")}
        layout = BatchLayout(**checkpoint["position"]["layout"])
        img_size = checkpoint.get(KEY, {}).get("img_size") or recipe["data"]["img_size"]
        classes = len(weights["model.head.weight"])
    except Exception as error:  # arbitrary bytes can raise anything
        raise SettingError(f"{path} is not a checkpoint of a training ({type(error).__name__}: {error}).") from error
    module = build_module(module_class, recipe, Augmentation(**augment), img_size, classes, layout, None)
    module.load_state_dict(weights)
    return module.eval()


def describe_weights(module: LightningModule, datamodule: LightningDataModule | None) -> dict[str, object]:
    """Return the model's arguments, the names of its classes and the preprocessing of its images, in plain containers.

    A checkpoint keeps them, see `soft.models.metadata`.
    """
    known = {name: value for name in _METADATA if (value := getattr(datamodule, name, None)) is not None}
    if "img_size" in known:
        known["img_size"] = to_2tuple(known["img_size"])
    model = (module.recipe or {}).get("model") or describe_model(module.model)
    return Metadata(model=model, **known).to_dict()


def carry_metadata(module: LightningModule, datamodule: LightningDataModule) -> None:
    """Let the trained model carry what its checkpoints say: class names and preprocessing, in its `pretrained_cfg`.

    A model without a `pretrained_cfg`, which is not timm's, is left as it is.
    """
    metadata = metadata_of(describe_weights(module, datamodule))
    for model in dict.fromkeys([module.model, module.evaluated_model]):
        if isinstance(getattr(model, "pretrained_cfg", None), Mapping):
            attach_metadata(model, metadata)


def check_classes(checkpoint: Mapping[str, object], datamodule: LightningDataModule | None) -> None:
    """Refuse a checkpoint whose classes the same data set has in another order now, or has no longer.

    Args:
        checkpoint: the content of the checkpoint of a training that is to go on.
        datamodule: the data to go on with; only class names and `dataset` are read.

    Raises:
        SettingError: the labels would mean other classes than before.
    """
    names, recipe = getattr(datamodule, "class_names", None), checkpoint.get("recipe")
    if names is None or not recipe or recipe["data"]["dataset"] != datamodule.dataset:
        return
    trained = (checkpoint.get(KEY) or {}).get("class_names")
    if trained and sorted(trained) != sorted(names):
        raise SettingError(
            f"The training so far had other classes ({first_few(trained)}) than the data has now ({first_few(names)}); "
            "go on with its own data, or train anew."
        )
    check_order(trained or unnamed_order(datamodule.dataset, names), names)
