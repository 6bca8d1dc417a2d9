"""Which model a file of weights belongs to, where nothing but shapes and the file's name say it."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor

from soft.errors import SettingError
from soft.models.resizing import attention_grids, find_grids, find_num_landmarks, find_windows
from soft.models.variants import LAYOUTS

log = logging.getLogger(__name__)


def recognise(weights: Mapping[str, Tensor], path: Path) -> dict[str, object]:
    """Return `name` of the model with these depths and widths, for `soft.models.factory.create_from_config`.

    Weights with normalised attention have the same shapes as those without. Where both models have a name, the file's
    name has to contain one of them.

    Args:
        weights: state dict in our key names.
        path: the file that they come from.

    Raises:
        SettingError: no model or several have these shapes, or the attention is not SOFT's.
    """
    embeddings = [weights.get(f"stages.{i}.pos_embed", torch.empty(0)) for i in range(4)]
    widths = tuple(embedding.shape[-1] for embedding in embeddings)
    blocks = {match[0] for key in weights if (match := re.match(r"stages\.\d+\.blocks\.\d+\.", key))}
    depths = tuple(sum(block.startswith(f"stages.{i}.") for block in blocks) for i in range(4))
    names = [name for name, layout in LAYOUTS.items() if layout == (depths, widths)]
    if not names:
        raise SettingError(f"{path} was not loaded: no SOFT model has its depths {depths} and widths {widths}.")
    if not any(".attn.landmarks." in key for key in weights):
        raise SettingError(
            f"{path} does not say which attention it was trained with, and it is not SOFT's; name both, such as "
            f"name={names[0]!r}, attention='softmax'."
        )
    if len(names) == 1:
        log.warning("%s does not say which model it holds; it was taken for %s by its shapes.", path, names[0])
        return {"name": names[0]}
    named = [name for name in names if name in re.sub(r"\W", "_", path.name.lower())]
    if len(named) != 1:
        raise SettingError(
            f"{path} has the shapes of {' and '.join(names)}; say which with name={names[0]!r} (for a command, "
            f"model={names[0]})."
        )
    log.warning("%s does not say which model it holds; it was taken for %s by its shapes and its name.", path, named[0])
    return {"name": named[0]}


def find_sizes(weights: Mapping[str, Tensor], config: Mapping[str, object]) -> dict[str, object]:
    """Return `img_size` and `num_landmarks` of the model that these weights were trained in, as far as shapes tell.

    Args:
        weights: state dict in our key names.
        config: `name` of the model, and arguments of it, which are not looked for.
    """
    options = {key: value for key, value in config.items() if key != "name"}
    with torch.device("meta"):
        model = timm.create_model(config["name"], **options)
    if (grids := find_grids(weights, model)) is None:
        return {}
    reduction = model.feature_info[0]["reduction"]
    found = {"img_size": tuple(side * reduction for side in grids[0])}
    sampler, windows = getattr(model.stages[0].blocks[0].attn, "landmarks", None), find_windows(weights)
    if sampler is not None and windows:
        found["num_landmarks"] = find_num_landmarks(windows, attention_grids(model, grids), sampler.num_landmarks)
    return {key: value for key, value in found.items() if value is not None and key not in options}
