"""What a checkpoint says beside its weights: the model's arguments, the names of the classes, the preprocessing.

A model carries the same in timm's form: in `pretrained_cfg` (`label_names`, `input_size`, `mean`, `std`, `crop_pct`,
`interpolation`), so that `timm.data.resolve_model_data_config(model)` gives the preprocessing of its training.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from timm.data import ImageNetInfo
from timm.layers import to_2tuple
from torch import nn

from soft.errors import SettingError
from soft.models.checkpoints import TIMM_WEIGHTS, find_timm_weights, read_entry

KEY = "metadata"  # in a checkpoint, beside `state_dict`


@dataclass(frozen=True)
class Metadata:
    """Where the weights of a checkpoint come from; None stands for what is not known.

    Attributes:
        model: arguments of the model, see `soft.models.factory.create_from_config`.
        dataset: name of the data set.
        class_names: a name for each output of the classifier, in order.
        img_size: height and width in pixels.
        mean, std: per channel, for pixel values from 0 to 1.
        crop_pct: images are resized to img_size / crop_pct and cropped in the centre.
        interpolation: of that resizing, `bilinear` or `bicubic`.
        origin: `checkpoint` if the file states this, `recipe` if it follows from the configuration in an older file,
            which names no classes, and `published` if it is what the paper's models share.
    """

    model: Mapping[str, object] | None = None
    dataset: str | None = None
    class_names: tuple[str, ...] | None = None
    img_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    origin: str = "checkpoint"

    def to_dict(self) -> dict[str, object]:
        """Return plain containers, to keep under `KEY` in a checkpoint or as JSON in an export."""
        facts = {key: value for key, value in asdict(self).items() if value is not None and key != "origin"}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()}


def read_metadata(path: str | Path) -> Metadata | None:
    """Return what a checkpoint of ours, or a folder that timm wrote, says beside its weights; None for any other file.

    Raises:
        SettingError: what the file says is malformed.
    """
    facts, recipe = read_entry(path, KEY), read_entry(path, "recipe")
    try:
        if (folder := _timm_folder(Path(path).expanduser())) is not None:
            return _read_timm_config(folder)
        if facts is not None:
            return metadata_of(facts, "checkpoint")
        if recipe is not None:
            return metadata_of({"model": recipe["model"], **recipe["data"]}, "recipe")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingError(f"{path} holds metadata that cannot be read ({type(error).__name__}: {error}).") from error
    return None


def _timm_folder(path: Path) -> Path | None:
    """Return the folder that timm wrote, given itself or its file of weights; None for any other path."""
    folder = path.parent if path.name in TIMM_WEIGHTS else path
    return folder if find_timm_weights(folder) and (folder / "config.json").is_file() else None


def _read_timm_config(folder: Path) -> Metadata:
    config = json.loads((folder / "config.json").read_text())
    arguments, facts = config.get("model_args", {}), config["pretrained_cfg"]
    own = {key: value for key, value in arguments.items() if key not in ("num_classes", "img_size")}
    size = arguments.get("img_size") or facts["input_size"][1:]  # the latter may be the default of the model's name
    names = config.get("label_names") or facts.get("label_names")
    model = {"name": config["architecture"], **own}
    return metadata_of({**facts, "model": model, "img_size": size, "class_names": names})


def published_metadata(model: nn.Module) -> Metadata | None:
    """Return ImageNet's classes and the preprocessing of the paper's models; None for a model of other classes.

    Released files state neither.
    """
    names = ImageNetInfo("imagenet-1k").label_names()
    if model.num_classes != len(names):
        return None
    facts = {key: model.default_cfg[key] for key in ("mean", "std", "crop_pct", "interpolation")}
    size = model.default_cfg["input_size"][1:]
    return metadata_of({"dataset": "imagenet", "class_names": names, "img_size": size, **facts}, "published")


def attach_metadata(model: nn.Module, metadata: Metadata) -> None:
    """Write class names and preprocessing into the model's `pretrained_cfg`, where timm looks for them.

    Class names are left out if they are not as many as the model's classes. The model may be any of timm's.
    """
    cfg = {name: getattr(metadata, name) for name in ("mean", "std", "crop_pct", "interpolation")}
    if metadata.img_size is not None:
        cfg["input_size"] = (getattr(model, "in_chans", 3), *metadata.img_size)
        if isinstance(stages := getattr(model, "stages", None), nn.ModuleList | nn.Sequential):
            cfg["pool_size"] = getattr(stages[-1], "grid", None)  # only SOFT models say it
    if len(metadata.class_names or ()) == model.num_classes:
        cfg["label_names"] = metadata.class_names
    known = {key: value for key, value in cfg.items() if value is not None}
    own = dict(model.pretrained_cfg)
    if own_class_names(model) is None:
        own.pop("label_names", None)
    model.pretrained_cfg = model.default_cfg = {**own, "num_classes": model.num_classes, **known}


def own_class_names(model: nn.Module) -> list[str] | None:
    """Return the names in the model's `pretrained_cfg`; None if there are none, or not as many as its classes.

    The latter are those of an older classifier: `timm.create_model(..., pretrained=True, num_classes=2)` keeps them.
    """
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    return list(names) if names and len(names) == model.num_classes else None


def metadata_of(facts: Mapping[str, object], origin: str = "checkpoint") -> Metadata:
    """Return the metadata that plain containers hold, such as `Metadata.to_dict` or a recipe; other keys are ignored.

    Args:
        facts: some of the attributes of `Metadata`; `img_size` may be one number.
        origin: as in `Metadata`.
    """

    def numbers(key: str) -> tuple[float, ...] | None:
        return None if facts.get(key) is None else tuple(float(value) for value in facts[key])

    names, size, crop_pct = facts.get("class_names"), facts.get("img_size"), facts.get("crop_pct")
    return Metadata(
        model=None if facts.get("model") is None else _with_former_scale(facts["model"]),
        dataset=facts.get("dataset"),
        class_names=None if names is None else tuple(str(name) for name in names),
        img_size=None if size is None else tuple(int(side) for side in to_2tuple(size)),
        mean=numbers("mean"),
        std=numbers("std"),
        crop_pct=None if crop_pct is None else float(crop_pct),
        interpolation=facts.get("interpolation"),
        origin=origin,
    )


def _with_former_scale(model: Mapping[str, object]) -> dict[str, object]:
    """Return a model's arguments, with the plain sum for a soft_pico from before it had a global scale of its own."""
    attention = model.get("attention", "soft")
    options = {**model, **attention} if isinstance(attention, Mapping) else model
    of_soft = options.get("attention", "soft") in ("soft", "soft_norm")
    if model.get("name") == "soft_pico" and of_soft and "global_scale" not in options:
        return {**model, "global_scale": None}
    return dict(model)
