"""A model from the plain mapping that a run's configuration and its checkpoints hold."""

import difflib
import inspect
from collections.abc import Mapping

import timm
from timm.models import build_model_with_cfg, is_model

from soft.errors import SettingError
from soft.models.backbone import SoftTransformer


def create_from_config(
    config: Mapping[str, object], num_classes: int, img_size: int | tuple[int, int] | None = None
) -> SoftTransformer:
    """The model that `config` names.

    Args:
        config: `name`, a mapping `attention` of the attention's name and options, `grad_checkpointing`, and further
            arguments of `SoftTransformer`; `recipe` is for training and is not read.
        num_classes: width of the classifier.
        img_size: pixels, or (height, width); None for the model's own.
    """
    options = {
        key: value for key, value in config.items() if key not in ("name", "attention", "grad_checkpointing", "recipe")
    }
    name = config["name"]
    if not (str(name).startswith("soft_") and is_model(name)):
        models = timm.list_models("soft_*")
        close = difflib.get_close_matches(str(name), models, n=2) or models
        raise SettingError(f"model.name={name!r} is not a SOFT model; did you mean {' or '.join(close)}?")
    _check_options({**options, **config["attention"]})
    if img_size is not None:
        options["img_size"] = img_size
    model = timm.create_model(name, num_classes=num_classes, **options, **config["attention"])
    if config.get("grad_checkpointing"):
        model.set_grad_checkpointing()
    return model


def _check_options(options: Mapping[str, object]) -> None:
    """Refuse arguments of timm's: a configuration may come with a checkpoint, and names no files to load."""
    for_timm = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    if refused := sorted(for_timm.intersection(options) | {key for key in options if key.startswith("pretrained")}):
        raise SettingError(f"model.{refused[0]} is not a setting of a SOFT model, but an argument of timm's own.")
