"""Builds the module that a recipe trains."""

from collections.abc import Mapping

from soft.data.augmentation import Augmentation
from soft.hardware.layout import BatchLayout
from soft.models.factory import create_from_config
from soft.training.length import Length
from soft.training.module import ImageClassifier

_SIDE_NODES = ("recipe",)  # a node in which older recipes keep values for other groups


def build_module(
    recipe: Mapping[str, object],
    augment: Augmentation,
    img_size: int | tuple[int, int],
    num_classes: int,
    layout: BatchLayout,
    length: Length | None,
) -> ImageClassifier:
    """Build the module that a recipe trains.

    Args:
        recipe: the resolved configuration, in plain containers: its groups `model`, `optimizer`, `schedule`, `ema` and
            `trainer`, its `seed` and `max_nonfinite_steps`.
        augment: augmentation of the training images.
        img_size: pixels, or (height, width).
        layout: how the global batch lies over devices and accumulated passes.
        length: of the training; None where it is not known, because the data is not here.
    """
    optimizer, schedule = (
        {key: value for key, value in recipe[group].items() if key not in _SIDE_NODES}
        for group in ("optimizer", "schedule")
    )
    ema, trainer = recipe["ema"], recipe["trainer"]
    return ImageClassifier(
        create_from_config(recipe["model"], num_classes, img_size),
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
    )
