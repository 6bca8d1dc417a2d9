"""Weights in and out: files in many wrappings, and the authors' key names against ours."""

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import timm.models
import torch
from torch import Tensor, nn

from soft.errors import SettingError, first_few
from soft.models.blocks import resize_position_embedding
from soft.settings import check_choice

WEIGHTS = ("ema", "raw")

# (the authors' name, ours) of each part: # is the stage, which they count from one and we from zero, * the block in it.
# The first pair that fits a key renames it.
_NAMES = (
    *((f"patch_embed1.proj.{3 * i}", f"stem.{i}.conv") for i in range(3)),
    *((f"patch_embed1.proj.{3 * i + 1}", f"stem.{i}.bn") for i in range(3)),
    ("patch_embed#.proj.0", "downsamples.#.conv"),
    ("patch_embed#.proj.1", "downsamples.#.bn"),
    ("pos_embed#", "stages.#.pos_embed"),
    ("cls_token", "stages.3.cls_token"),
    ("block4.*", "stages.3.blocks.*"),
    ("block#.*.att.mha.W_q", "stages.#.blocks.*.attn.q"),
    ("block#.*.att.mha.W_v", "stages.#.blocks.*.attn.v"),
    ("block#.*.att.mha.attn.Qlandmark_op", "stages.#.blocks.*.attn.landmarks.conv"),
    ("block#.*.att.mha.attn.Qnorm_act.0", "stages.#.blocks.*.attn.landmarks.norm"),
    ("block#.*.att.mha.attn.conv", "stages.#.blocks.*.attn.local"),
    ("block#.*.att.mha.ff", "stages.#.blocks.*.attn.proj"),
    ("block#.*.att.norm1", "stages.#.blocks.*.norm1"),
    ("block#.*.att.ff1", "stages.#.blocks.*.mlp.fc1"),
    ("block#.*.att.ff2", "stages.#.blocks.*.mlp.fc2"),
    ("block#.*.att.norm2", "stages.#.blocks.*.norm2"),
    ("norm", "norm"),
    ("head", "head"),
)


def to_soft_keys(
    state_dict: Mapping[str, Tensor], model: nn.Module | None = None, weights: str = "ema"
) -> dict[str, Tensor]:
    """A state dict in the authors' or our key names, in any wrapping -> our key names.

    Wrappings are `module.` and `_orig_mod.` prefixes and the state dict of our LightningModule, which holds the raw
    weights under `model.` and their moving average under `ema.module.`; of these `weights` takes `ema` (where there is
    one) or `raw`. `model` is not read: timm passes it to such filters.
    """
    check_choice("weights", weights, WEIGHTS)
    ours = timm.models.clean_state_dict(dict(state_dict))
    for prefix in ("ema.module.", "model.") if weights == "ema" else ("model.",):
        if inner := {key.removeprefix(prefix): value for key, value in ours.items() if key.startswith(prefix)}:
            ours = timm.models.clean_state_dict(inner)
            break
    if not any(key.startswith("patch_embed1.") for key in ours):
        return ours
    ours = {_rename(key, official=False) or key: value for key, value in ours.items()}
    # The authors keep q apart from k and v in stage 4; timm's block holds the three in one map.
    for key in [key for key in ours if ".attn.kv." in key]:
        if (q := key.replace(".attn.kv.", ".attn.q.")) in ours:
            ours[key.replace(".attn.kv.", ".attn.qkv.")] = torch.cat([ours.pop(q), ours.pop(key)])
    return ours


def to_official_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A SoftTransformer's state dict in the authors' key names; `to_soft_keys` gives the same bits back.

    Raises:
        SettingError: a key has no counterpart there, as with an attention that the authors did not release.
    """
    renamed = {key: _rename(key, official=True) for key in state_dict}
    if unknown := [key for key, name in renamed.items() if name is None]:
        raise SettingError(f"The authors' files have no name for {first_few(unknown)}.")
    official: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name = renamed[key]
        if ".attn.qkv." in name:
            width = value.shape[0] // 3
            official[name.replace(".qkv.", ".q.")] = value[:width]
            official[name.replace(".qkv.", ".kv.")] = value[width:]
        else:
            official[name] = value
    return official


def read_weights(path: str | Path, weights: str = "ema") -> dict[str, Tensor]:
    """State dict of a .pth, .pth.tar, .ckpt or .safetensors file, in our key names, on the CPU.

    The file holds a state dict, bare or under `state_dict_ema`, `state_dict` or `model`; see `to_soft_keys` for what
    may be wrapped around the keys, and for `weights`. Nothing but tensors and plain containers is unpickled.

    Raises:
        SettingError: there is no such file, it cannot be read, or there are no weights in it.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingError(f"There is no checkpoint file {path}.")
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


def find_damage(path: str | Path) -> str | None:
    """What is wrong with a file of torch.save, None if it is whole.

    It reads all of the file and compares checksums, which torch.load does not: it loads flipped bits.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception as error:  # reading arbitrary bytes as an archive can raise anything
        return str(error) or type(error).__name__
    return f"the checksum of {bad} is wrong" if bad else None


def load_weights(
    model: nn.Module, source: str | Path | Mapping[str, Tensor], weights: str = "ema", reset_head: bool = False
) -> None:
    """Load a file (`read_weights`) or a state dict (`to_soft_keys`) into a SoftTransformer.

    Args:
        model: the SoftTransformer to fill; position embeddings are resized to its `img_size`.
        source: file, or state dict in the authors' or our key names.
        weights: `ema` for the moving average where there is one, else `raw`.
        reset_head: keep the model's own classifier and leave out the file's.

    Raises:
        SettingError: the file cannot be read, or does not fit the model; nothing is loaded then.
    """
    if isinstance(source, (str, Path)):
        source = read_weights(source, weights)
    state_dict = to_soft_keys(source, weights=weights)
    if reset_head:
        own = model.state_dict()
        state_dict = {key: value for key, value in state_dict.items() if not key.startswith("head.")}
        state_dict |= {key: value for key, value in own.items() if key.startswith("head.")}
    model.load_state_dict(state_dict)


def fit_to_model(state_dict: Mapping[str, Tensor], model: nn.Module, strict: bool = True) -> dict[str, Tensor]:
    """State dict for `model` (a SoftTransformer) from any form that `to_soft_keys` reads: checked, and resized to it.

    Args:
        state_dict: weights in the authors' or our key names.
        model: gives the keys, shapes and grids that are wanted.
        strict: refuse missing and extra keys too, not only shapes that differ.

    Raises:
        SettingError: something does not fit.
    """
    ours = to_soft_keys(state_dict)
    wanted = model.state_dict()
    for i, stage in enumerate(model.stages):
        key = f"stages.{i}.pos_embed"
        if key in ours:
            ours[key] = _fit_position_embedding(ours[key], stage)
    missing = [key for key in wanted if strict and key not in ours]
    extra = [key for key in ours if strict and key not in wanted]
    misshaped = [key for key, value in ours.items() if key in wanted and value.shape != wanted[key].shape]
    problems = missing + extra + misshaped
    if not problems:
        return ours
    if all(key.startswith("head.") for key in problems):
        theirs, own = (len(weights.get("head.weight", ())) for weights in (ours, wanted))
        raise SettingError(
            f"The weights classify into {theirs} classes and the model into {own}: build it with num_classes={theirs}, "
            "or keep its own classifier with soft.models.checkpoints.load_weights(..., reset_head=True)."
        )
    shapes = [f"{key} {tuple(ours[key].shape)} instead of {tuple(wanted[key].shape)}" for key in misshaped]
    parts = (("missing", missing), ("unknown", extra), ("of another shape", shapes))
    message = "; ".join(f"{len(found)} {what} ({first_few(found)})" for what, found in parts if found)
    hint = ""
    if all(".landmarks.conv." in key for key in problems):
        hint = " Landmark windows follow from img_size and num_landmarks; models run on inputs of any other size too."
    raise SettingError(f"The weights do not fit the model; keys: {message}.{hint}")


def _fit_position_embedding(embedding: Tensor, stage: nn.Module) -> Tensor:
    """Position embedding on the stage's grid; unchanged where it does not come from a square grid."""
    own = stage.pos_embed.shape
    prefix = own[1] - stage.grid[0] * stage.grid[1]
    tokens = embedding.shape[1] - prefix if embedding.ndim == 3 else 0
    side = math.isqrt(max(tokens, 0))
    if embedding.shape == own or side == 0 or side * side != tokens:
        return embedding
    return resize_position_embedding(embedding, (side, side), stage.grid)


def _rules(official: bool) -> list[tuple[re.Pattern[str], str]]:
    pairs = _NAMES if not official else [(ours, theirs) for theirs, ours in _NAMES]
    digits = {r"\#": r"(?P<stage>\d+)", r"\*": r"(?P<block>\d+)"}
    return [
        (re.compile(re.sub(r"\\[#*]", lambda m: digits[m[0]], re.escape(old)) + r"(?P<leaf>\..+)?"), new)
        for old, new in pairs
    ]


_RULES = {official: _rules(official) for official in (False, True)}


def _rename(key: str, official: bool) -> str | None:
    """`key` in the authors' names (`official`) or ours; None where it has no name there."""
    for pattern, target in _RULES[official]:
        if match := pattern.fullmatch(key):
            found = match.groupdict(default="")
            if "stage" in found:
                target = target.replace("#", str(int(found["stage"]) + (1 if official else -1)))
            return target.replace("*", found.get("block", "")) + found["leaf"]
    return None


def read_recipe(path: str | Path) -> dict[str, object] | None:
    """The configuration that a checkpoint of ours was trained with, as plain containers; None for any other file."""
    path = Path(path)
    if path.suffix != ".ckpt" or not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("recipe")
    except Exception:  # `read_weights` says what is wrong with the file
        return None
