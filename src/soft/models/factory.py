"""A model from the plain mapping that a run's configuration and its checkpoints hold."""

import difflib
from collections.abc import Mapping

import timm
from timm.models import is_model

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
    check_model_name("model.name", name)
    if img_size is not None:
        options["img_size"] = img_size
    model = timm.create_model(name, num_classes=num_classes, **options, **config["attention"])
    if config.get("grad_checkpointing"):
        model.set_grad_checkpointing()
    return model


def check_model_name(setting: str, name: object) -> None:
    """Refuse all but the names of SOFT models.

    Args:
        setting: as the user writes it.
    """
    if str(name).startswith("soft_") and is_model(str(name)):
        return
    models = timm.list_models("soft_*")
    close = difflib.get_close_matches(str(name), models, n=2) or models
    raise SettingError(f"{setting}={name!r} is not a SOFT model; did you mean {' or '.join(close)}?")
