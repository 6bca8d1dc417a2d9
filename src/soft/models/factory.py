"""A model from the plain mapping that a run's configuration and its checkpoints hold."""

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path

import timm
from timm.models import build_model_with_cfg, is_model

from soft.errors import SettingError
from soft.models.backbone import SoftTransformer
from soft.models.checkpoints import load_weights, read_recipe, read_weights


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
    name, attention = config["name"], config.get("attention", {})
    check_model_name("model.name", name)
    _check_options({**options, **attention})
    if img_size is not None:
        options["img_size"] = img_size
    model = timm.create_model(name, num_classes=num_classes, **options, **attention)
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


def create_from_checkpoint(
    path: str | Path, config: Mapping[str, object] | None = None, weights: str = "ema"
) -> SoftTransformer:
    """The model that a checkpoint holds, with its weights.

    Args:
        path: a file of ours or a released one, see `read_weights`.
        config: as in `create_from_config`; None for what the checkpoint says. Released files do not say it.
        weights: `ema` for the moving average where there is one, else `raw`.
    """
    trained = read_recipe(path)
    state_dict = read_weights(path, weights)
    if config is None:
        if trained is None:
            raise SettingError(f"{path} does not say which model it holds; add model=soft_tiny, for example.")
        config = trained["model"]
    classes = len(state_dict["head.weight"]) if "head.weight" in state_dict else 0
    # Landmark windows follow from the size that the weights were trained at, not from the one they are used at.
    model = create_from_config(config, classes, trained["data"]["img_size"] if trained else None)
    load_weights(model, state_dict)
    return model


def _check_options(options: Mapping[str, object]) -> None:
    """Refuse arguments of timm's: a configuration may come with a checkpoint, and names no files to load."""
    for_timm = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    if refused := sorted(for_timm.intersection(options) | {key for key in options if key.startswith("pretrained")}):
        raise SettingError(f"model.{refused[0]} is not a setting of a SOFT model, but an argument of timm's own.")
