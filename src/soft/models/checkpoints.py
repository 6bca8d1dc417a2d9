"""Weights from files into models: reading any usual file, and fitting what it holds to a model."""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path

import timm.models
import torch
from torch import Tensor, nn

from soft.errors import SettingError, first_few
from soft.models.key_names import to_soft_keys
from soft.models.resizing import resize_to_model

log = logging.getLogger(__name__)

FILE_TYPES = (".ckpt", ".pth", ".pth.tar", ".pt", ".safetensors")
TIMM_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # either, in a folder that timm wrote, beside config.json


def read_weights(path: str | Path, weights: str = "ema") -> dict[str, Tensor]:
    """Return the state dict in a .pth, .pth.tar, .ckpt or .safetensors file, in our key names, on the CPU.

    Nothing but tensors and plain containers is unpickled.

    Args:
        path: a file that holds a state dict, bare or under `state_dict_ema`, `state_dict` or `model`; `to_soft_keys`
            says which key names and prefixes it may have. Of a folder, its model.safetensors or
            pytorch_model.bin is read, which timm writes there.
        weights: `ema` for the moving average where there is one, else `raw`.

    Raises:
        SettingError: there is no such file, it cannot be read, or there are no weights in it.
    """
    if not str(path):
        raise SettingError("The path of the checkpoint is empty.")
    path = Path(path).expanduser()
    path = find_timm_weights(path) or path
    if not path.is_file():
        raise SettingError(f"There is no checkpoint file {path}{_about_folder(path)}")
    if zipfile.is_zipfile(path) and (damage := find_damage(path)):
        raise SettingError(f"{path} was not loaded: it is damaged ({damage}).")
    try:
        state_dict = timm.models.load_state_dict(str(path), use_ema=weights == "ema", weights_only=True)
    except Exception as error:  # an unpickler in the middle of arbitrary bytes can raise anything
        raise SettingError(
            f"{path} was not loaded: it is damaged, cut short, no checkpoint, or holds objects other than weights, "
            f"which are never executed ({type(error.__cause__ or error).__name__})."
        ) from error
    if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
        raise SettingError(
            f"{path} holds no {weights} weights: there is no state dict in it, bare or under state_dict_ema, "
            "state_dict or model."
        )
    return to_soft_keys(state_dict, weights=weights)


def find_timm_weights(folder: Path) -> Path | None:
    """Return the file of weights in a folder that timm wrote; None for any other path."""
    return next((folder / name for name in TIMM_WEIGHTS if (folder / name).is_file()), None)


def read_entry(path: str | Path, key: str) -> object | None:
    """Return what a file of torch.save holds under `key`; None if it holds no such entry or cannot be read.

    The weights beside it stay on the disk. `read_weights` says what is wrong with a file.
    """
    path = Path(path).expanduser()
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(key)
    except Exception:  # as in `read_weights`
        return None


def read_recipe(path: str | Path) -> dict[str, object] | None:
    """Return the configuration of a checkpoint of ours, in plain containers; None for any other file."""
    recipe = read_entry(path, "recipe")
    return recipe if isinstance(recipe, dict) else None


def find_damage(path: str | Path) -> str | None:
    """Return what is wrong with a file of torch.save; None if it is whole.

    This reads the whole file and compares checksums. torch.load does not, and would load flipped bits.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception as error:  # reading arbitrary bytes as an archive can raise anything
        return str(error) or type(error).__name__
    return f"the checksum of {bad} is wrong" if bad else None


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, Tensor],
    weights: str = "ema",
    reset_head: bool = False,
    img_size: int | tuple[int, int] | None = None,
) -> None:
    """Load a file or a state dict into a SOFT model; nothing is loaded if it does not fit.

    Args:
        model: the model to fill. What depends on its `img_size` and `num_landmarks` is resized to it, with a warning
            in the log, see `soft.models.resizing`.
        source: a file, see `read_weights`, or a state dict, see `to_soft_keys`.
        weights: `ema` for the moving average where there is one, else `raw`.
        reset_head: keep the model's own classifier and leave out the source's.
        img_size: pixels, or (height, width), that the weights belong to; None to infer it from their shapes.

    Raises:
        SettingError: the file cannot be read, or does not fit the model.
    """
    if isinstance(source, (str, Path)):
        source = read_weights(source, weights)
    state_dict = to_soft_keys(source, weights=weights)
    if reset_head:
        own = model.state_dict()
        state_dict = {key: value for key, value in state_dict.items() if not key.startswith("head.")}
        state_dict |= {key: value for key, value in own.items() if key.startswith("head.")}
    model.load_state_dict(fit_to_model(state_dict, model, img_size=img_size))


def fit_to_model(
    state_dict: Mapping[str, Tensor],
    model: nn.Module,
    strict: bool = True,
    img_size: int | tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """Return the state dict of `fit_weights`, and warn in the log if something was resized."""
    fitted, resized = fit_weights(state_dict, model, strict, img_size)
    if resized:
        log.warning("The weights were resized to fit the model: %s.", resized)
    return fitted


def fit_weights(
    state_dict: Mapping[str, Tensor],
    model: nn.Module,
    strict: bool = True,
    img_size: int | tuple[int, int] | None = None,
) -> tuple[dict[str, Tensor], str]:
    """Return a state dict whose keys and shapes are the model's, and a part of a sentence about what was resized.

    Args:
        state_dict: weights in any form that `to_soft_keys` reads.
        model: the SOFT model that they are for.
        strict: refuse missing and unknown keys too, not only shapes that differ.
        img_size: as in `load_weights`.

    Raises:
        SettingError: something does not fit.
    """
    ours, resized = resize_to_model(to_soft_keys(state_dict), model, img_size)
    wanted = model.state_dict()
    missing = [key for key in wanted if strict and key not in ours]
    unknown = [key for key in ours if strict and key not in wanted]
    misshaped = [key for key, value in ours.items() if key in wanted and value.shape != wanted[key].shape]
    problems = missing + unknown + misshaped
    if not problems:
        return ours, resized
    if all(key.startswith("head.") for key in problems):
        theirs, own = (len(weights.get("head.weight", ())) for weights in (ours, wanted))
        raise SettingError(
            f"The weights classify into {theirs} classes and the model into {own}: build it with num_classes={theirs}, "
            "or keep its own classifier with soft.models.checkpoints.load_weights(..., reset_head=True)."
        )
    shapes = {key: (tuple(ours[key].shape), tuple(wanted[key].shape)) for key in misshaped}
    raise SettingError(_misfit(missing, unknown, shapes))


def check_pretrained(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict in our key names; timm calls this as `pretrained_filter_fn` before it adapts the weights.

    timm then drops a classifier of another width, adapts the first convolution to other input channels, and loads
    without looking at missing keys. So keys are checked here, and timm is told how many classes the weights have.

    Raises:
        SettingError: keys other than the classifier's are missing or unknown.
    """
    ours, wanted = to_soft_keys(state_dict), model.state_dict()
    missing = [key for key in wanted if key not in ours and not key.startswith("head.")]
    unknown = [key for key in ours if key not in wanted and not key.startswith("head.")]
    if missing or unknown:
        raise SettingError(_misfit(missing, unknown, {}))
    if "head.weight" in ours:
        model.pretrained_cfg["num_classes"] = len(ours["head.weight"])
    return ours


# Options of the attentions that decide a parameter's shape: by the end of its key, the option and the axis to read.
_OPTIONS = {
    ".attn.projection": ("num_landmarks", 1),
    ".attn.directions": ("num_features", 0),
    ".attn.conv.weight": ("conv_kernel", 2),
}


def _misfit(
    missing: list[str], unknown: list[str], shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
) -> str:
    """Return what does not fit, given the shapes (the weights', the model's) that differ, and the option to change."""
    differences = [f"{key} {theirs} instead of {own}" for key, (theirs, own) in shapes.items()]
    parts = (("missing", missing), ("unknown", unknown), ("of another shape", differences))
    message = "; ".join(f"{len(found)} {what} ({first_few(found)})" for what, found in parts if found)
    keys, hint = [*missing, *unknown, *shapes], ""
    if all(".attn.landmarks.conv." in key for key in keys) and not shapes:
        how, fits = ("by", "conv") if unknown else ("without", "avgpool, random or first, as they were trained")
        hint = f" The weights sample landmarks {how} a convolution; build the model with sampling={fits}."
    if shapes and all(".attn.landmarks.conv." in key for key in shapes) and len(keys) == len(shapes):
        hint = (
            " The windows of landmarks follow from num_landmarks and img_size; build the model with the weights' own."
        )
    for part, (option, axis) in _OPTIONS.items():
        if len(keys) == len(shapes) and all(
            key.endswith(part) and theirs[axis] != own[axis] for key, (theirs, own) in shapes.items()
        ):
            hint = f" Build the model with {option}={shapes[keys[0]][0][axis]}, as the weights were trained."
    return f"The weights do not fit the model; keys: {message}.{hint}"


def _about_folder(path: Path) -> str:
    """Return how to go on after "There is no checkpoint file PATH": a folder may hold one."""
    if not path.is_dir():
        return "."
    files = [file for folder in (path, path / "checkpoints") if folder.is_dir() for file in folder.iterdir()]
    found = sorted(file for file in files if file.name.endswith(FILE_TYPES) and file.is_file())
    best = [file for name in ("best.ckpt", "last.ckpt") for file in found if file.name == name] or found
    return "; it is a folder." + (f" Did you mean {best[0]}?" if best else "")
