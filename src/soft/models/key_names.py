"""Key names of state dicts: the authors' and ours, and the wrappings that other tools leave around them."""

import re
from collections.abc import Mapping

import timm.models
import torch
from torch import Tensor, nn

from soft.errors import SettingError, first_few
from soft.settings import check_choice

WEIGHTS = ("ema", "raw")

# Pairs (the authors' name, our name) for each part. `#` stands for the stage, which the authors count from one and we
# count from zero; `*` stands for the block in that stage. The first pair that matches a key renames it.
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
    """Return a state dict in our key names, whatever names and wrapping it comes in.

    Args:
        state_dict: weights in the authors' or our key names. The names may carry the prefixes `module.` and
            `_orig_mod.`, or be those of our LightningModule, which keeps the raw weights under `model.` and their
            moving average under `ema.module.`.
        model: unused; timm passes the model to functions of this kind.
        weights: `ema` takes the moving average where a LightningModule has one, `raw` takes the raw weights.

    Raises:
        SettingError: `weights` is neither `ema` nor `raw`.
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
    # In the last stage the authors keep q apart from k and v, while timm's block has one map for the three.
    for key in [key for key in ours if ".attn.kv." in key]:
        if (q := key.replace(".attn.kv.", ".attn.q.")) in ours:
            ours[key.replace(".attn.kv.", ".attn.qkv.")] = torch.cat([ours.pop(q), ours.pop(key)])
    return ours


def to_official_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a SoftTransformer's state dict in the authors' key names; `to_soft_keys` gives the same bits back.

    Raises:
        SettingError: the authors have no name for a key, such as one of an attention that they did not release.
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


def _rules(official: bool) -> list[tuple[re.Pattern[str], str]]:
    pairs = _NAMES if not official else [(ours, theirs) for theirs, ours in _NAMES]
    digits = {r"\#": r"(?P<stage>\d+)", r"\*": r"(?P<block>\d+)"}
    return [
        (re.compile(re.sub(r"\\[#*]", lambda m: digits[m[0]], re.escape(old)) + r"(?P<leaf>\..+)?"), new)
        for old, new in pairs
    ]


_RULES = {official: _rules(official) for official in (False, True)}


def _rename(key: str, official: bool) -> str | None:
    """Return `key` in the authors' names (`official`) or in ours; None if it has no name there."""
    for pattern, target in _RULES[official]:
        if match := pattern.fullmatch(key):
            found = match.groupdict(default="")
            if "stage" in found:
                target = target.replace("#", str(int(found["stage"]) + (1 if official else -1)))
            return target.replace("*", found.get("block", "")) + found["leaf"]
    return None
