"""Models from plain mappings, as configurations and checkpoints hold them, and from files of weights."""

import difflib
import inspect
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import timm
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, is_model
from torch import Tensor, nn

from soft.attention import ATTENTIONS, attention_options
from soft.attention.soft import SUM
from soft.errors import SettingError
from soft.models.backbone import SoftTransformer
from soft.models.checkpoints import load_weights, read_weights
from soft.models.metadata import Metadata, attach_metadata, read_metadata
from soft.models.recognition import find_sizes, recognise

log = logging.getLogger(__name__)

_NOT_ARGUMENTS = ("name", "attention", "grad_checkpointing", "recipe")


def create_from_config(
    config: Mapping[str, object], num_classes: int, img_size: int | tuple[int, int] | None = None
) -> SoftTransformer:
    """Return the model that `config` names.

    Args:
        config: `name`, `attention` (a name, or a mapping of the attention's name and options), `grad_checkpointing`,
            and further arguments of `SoftTransformer`. `recipe` is for training and is not read.
        num_classes: width of the classifier.
        img_size: pixels, or (height, width); None for the model's own.

    Raises:
        SettingError: an unknown name or option, or a value that does not fit.
    """
    name, options = config["name"], _options(config)
    check_model_name("model.name", name)
    _check_options("model.", options)
    if img_size is not None:
        options["img_size"] = img_size
    if "global_scale" in options and options["global_scale"] is None:
        options["global_scale"] = SUM
    model = timm.create_model(name, num_classes=num_classes, **options)
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


def describe_model(model: nn.Module) -> dict[str, object] | None:
    """Return the configuration with which `create_from_config` builds this model again, in plain containers.

    It leaves out `kernels`, see `without_kernels`, and is None for a model that `timm.create_model` did not make.
    """
    arguments = getattr(model, "_model_args", None)
    if arguments is None or not hasattr(model, "pretrained_cfg"):
        return None
    options = {key: value for key, value in arguments.items() if key not in ("num_classes", "img_size")}
    return without_kernels({"name": model.pretrained_cfg["architecture"], **options})


def without_kernels(config: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration without the attention's `kernels`: a file does not choose them for another machine."""
    attention = config.get("attention")
    if isinstance(attention, Mapping):
        config = {**config, "attention": {key: value for key, value in attention.items() if key != "kernels"}}
    return {key: value for key, value in config.items() if key != "kernels"}


def create_from_checkpoint(
    path: str | Path,
    config: Mapping[str, object] | None = None,
    weights: str = "ema",
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    reset_head: bool = False,
    attention_options: Mapping[str, object] | None = None,
) -> SoftTransformer:
    """Return the model that a checkpoint holds, with its weights, class names and preprocessing.

    Args:
        path: a file of ours or a released one, see `read_weights`.
        config: as in `create_from_config`; None for what the checkpoint says. Released files do not say it.
        weights: `ema` for the moving average where there is one, else `raw`.
        num_classes: width of the classifier; None for the file's. Another number gives a new classifier.
        img_size: pixels, or (height, width); None for the size of training. Another size resizes the weights.
        reset_head: give the model a new classifier, even if the file's has as many classes.
        attention_options: options of the attention in place of the configuration's, such as `newton_iters`.

    Raises:
        SettingError: the file cannot be read, does not say which model it holds, or does not fit `config`.
    """
    state_dict, metadata = read_weights(path, weights), read_metadata(path)
    config = config or (metadata and metadata.model and without_kernels(metadata.model))
    if not config:
        raise SettingError(f"{path} does not say which model it holds; add model=soft_tiny, for example.")
    if attention_options:
        config = {"name": config["name"], **_options(config), **attention_options}
    return _create(state_dict, metadata, config, num_classes, img_size, reset_head)


def find_config(path: str | Path) -> dict[str, object]:
    """Return the configuration of the model that a file holds, in the form of `regroup`.

    Where the file does not say it, shapes and the file's name do, see `soft.models.recognition`.

    Args:
        path: as for `read_weights`.

    Raises:
        SettingError: the file cannot be read, or its model is not known.
    """
    metadata = read_metadata(path)
    if metadata and metadata.model:
        return regroup(metadata.model)
    weights = read_weights(path)
    config = recognise(weights, Path(path))
    sizes = find_sizes(weights, config)
    return regroup({**config, **{key: value for key, value in sizes.items() if key != "img_size"}})


def regroup(config: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration as conf/model has it: name, `attention` with the attention's options, other arguments."""
    options, of_attention = _options(config), {"attention", *_attention_options()}
    attention = {key: value for key, value in options.items() if key in of_attention}
    others = {key: value for key, value in options.items() if key not in of_attention}
    return {"name": config["name"], "attention": attention, **others}


def option_differences(config: Mapping[str, object], options: Mapping[str, object]) -> list[str]:
    """Return a phrase for each option of the attention that differs from what `config` says, except `kernels`.

    Args:
        config: as in `create_from_config`.
        options: of the attention, by name.
    """
    recorded = _options(config)
    return [
        f"{name} is {value}, and was {recorded.get(name, 'its default')}"
        for name, value in _options({"attention": options}).items()
        if name != "kernels" and recorded.get(name) != value
    ]


def load_model(
    path: str | Path,
    name: str | None = None,
    *,
    weights: str = "ema",
    num_classes: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    **options: object,
) -> SoftTransformer:
    """Return a trained model from a file, in evaluation mode, with its class names and preprocessing.

    `model.pretrained_cfg["label_names"]` names the classes, where the file does, and
    `timm.data.create_transform(**timm.data.resolve_model_data_config(model))` prepares an image as in training.

    Args:
        path: a checkpoint of ours, or a file in the authors' key names, see `read_weights`.
        name: a model of `timm.list_models("soft_*")`; None for the one that the checkpoint names, or else the one that
            has these shapes. Where two models have them, as soft_tiny and soft_norm_tiny do, the file's name has to
            contain one of the two names.
        weights: `ema` for the moving average where there is one, else `raw`.
        num_classes: width of the classifier; None for the file's. Another number gives a new classifier.
        img_size: pixels, or (height, width); None for the size that the weights belong to. Another size resizes them.
        options: arguments of the model or its attention, such as `num_landmarks`, in place of the checkpoint's.

    Raises:
        SettingError: the file cannot be read, its model is not known, or the arguments do not fit it.
    """
    if name is not None:
        check_model_name("name", name)
    _check_options("", options)
    state_dict, metadata = read_weights(path, weights), read_metadata(path)
    config = metadata and metadata.model and without_kernels(metadata.model)
    if not config or name not in (None, config["name"]):
        config = {"name": name} if name else recognise(state_dict, Path(path))
    recorded = _options(config)
    if options.get("attention") not in (None, recorded.get("attention")):
        recorded = {key: value for key, value in recorded.items() if key not in _attention_options()}
    config = {"name": config["name"], **recorded, **options}
    if metadata is None and img_size is None:
        sizes = find_sizes(state_dict, config)
        img_size, config = sizes.pop("img_size", None), {**config, **sizes}
    return _create(state_dict, metadata, config, num_classes, img_size).eval()


def _create(
    state_dict: Mapping[str, Tensor],
    metadata: Metadata | None,
    config: Mapping[str, object],
    num_classes: int | None,
    img_size: int | tuple[int, int] | None,
    reset_head: bool = False,
) -> SoftTransformer:
    trained_size = metadata.img_size if metadata else None
    size = img_size or trained_size
    classes = len(state_dict["head.weight"]) if "head.weight" in state_dict else 0
    num_classes = classes if num_classes is None else num_classes
    new_head = reset_head or num_classes != classes
    model = create_from_config(config, num_classes, size)
    load_weights(model, state_dict, reset_head=new_head, img_size=trained_size)
    facts = replace(metadata or Metadata(), img_size=size and to_2tuple(size))
    if new_head:
        log.warning("The classifier of %d classes is new; the one in the file has %d.", num_classes, classes)
        facts = replace(facts, class_names=None)
    attach_metadata(model, facts)
    return model


def _options(config: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration's arguments of the model and its attention, without its name; `sum` is written None."""
    attention = config.get("attention", {})
    named = {"attention": attention} if isinstance(attention, str) else attention
    options = {key: value for key, value in config.items() if key not in _NOT_ARGUMENTS} | dict(named)
    return {key: None if key == "global_scale" and value == SUM else value for key, value in options.items()}


def _attention_options() -> set[str]:
    return {option for attention in ATTENTIONS for option in attention_options(attention)}


def _check_options(prefix: str, options: Mapping[str, object]) -> None:
    """Refuse arguments of timm's: a configuration may come with a checkpoint, and must not name files to load."""
    for_timm = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    if refused := sorted(for_timm.intersection(options) | {key for key in options if key.startswith("pretrained")}):
        hint = " Weights to begin with are named by checkpoint=PATH." if prefix else ""
        raise SettingError(
            f"{prefix}{refused[0]} is not a setting of a SOFT model, but an argument of timm's own.{hint}"
        )
