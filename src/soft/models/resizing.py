"""Weights of one input size or number of landmarks, resized to a model of another.

Three kinds of parameter belong to a size. Position embeddings have a vector for each token of a stage's grid; they are
resized bilinearly, as the model itself does for inputs of another size. The filters of landmark sampling cover windows
whose size follows from the grid and `num_landmarks`; timm's `resample_patch_embed` resamples them (Beyer et al.,
"FlexiViT", CVPR 2023, section 3.4), so that they answer to an enlarged image as they did to the original. Linformer's
projections have a row for each token.
"""

import math
from collections.abc import Mapping

import torch
from timm.layers import resample_patch_embed, to_2tuple
from torch import Tensor, nn

from soft.attention.landmarks import LandmarkSampler
from soft.attention.linformer import LinformerAttention
from soft.models.blocks import resize_position_embedding

Sizes = dict[int, tuple[int, int]]  # height and width by stage, in tokens

WINDOW = ".attn.landmarks.conv.weight"
PROJECTION = ".attn.projection"


def resize_to_model(
    weights: Mapping[str, Tensor], model: nn.Module, img_size: int | tuple[int, int] | None = None
) -> tuple[dict[str, Tensor], str]:
    """Return the weights at the model's sizes, and a part of a sentence about what was resized ("" for nothing).

    Weights whose shapes fit no size of the model are returned as they are.

    Args:
        weights: state dict in our key names.
        model: the SOFT model that they are for.
        img_size: pixels, or (height, width), that the weights belong to; None for what `find_grids` infers.
    """
    resized, wanted, own = dict(weights), model.state_dict(), _own_grids(model)
    parts = [key for key in weights if key in wanted and key.endswith(("pos_embed", WINDOW, PROJECTION))]
    same_shapes = all(weights[key].shape == wanted[key].shape for key in parts)
    if same_shapes and (img_size is None or _grids_at(model, img_size) == own):
        return resized, ""
    grids = find_grids(weights, model, img_size)
    if grids is None:
        return resized, ""
    seen, own_seen = (attention_grids(model, each) for each in (grids, own))
    for stage in own:
        if (key := _embedding_key(model, stage)) in parts:
            resized[key] = resize_position_embedding(weights[key], grids[stage], own[stage])
        for key in (key for key in parts if key.startswith(f"stages.{stage}.") and key.endswith(PROJECTION)):
            resized[key] = _resize_projection(weights[key], seen[stage], own_seen[stage])
    for stage, kernel in find_windows(wanted).items():
        resized |= _resample_windows(weights, [key for key in parts if _is_window(key, stage)], kernel)
    return resized, " and ".join(_notes(weights, resized, grids[0], own[0], own_seen))


def find_grids(
    weights: Mapping[str, Tensor], model: nn.Module, img_size: int | tuple[int, int] | None = None
) -> Sizes | None:
    """Return the grids of tokens that weights belong to, by stage; None if their shapes fit no image size.

    Position embeddings say how many tokens a grid has, and the windows of landmark sampling how it may be divided.
    Where several grids are left, `img_size` decides if it is among them. Otherwise the model's own grids come first,
    then square ones unless the model's is a single row, then those whose proportions are nearest to the model's. A
    model without learned embeddings leaves it all to `img_size`.

    Args:
        weights: state dict in our key names.
        model: a SOFT model of the same stages, of any size.
        img_size: pixels, or (height, width), that the weights are said to belong to.
    """
    own, tokens, wanted = _own_grids(model), {}, model.state_dict()
    if not any(_embedding_key(model, i) in wanted for i in own):
        return None if img_size is None else _grids_at(model, img_size)
    for i, (height, width) in own.items():
        like, embedding = (each.get(_embedding_key(model, i)) for each in (wanted, weights))
        if embedding is None or embedding.ndim != 3 or embedding.shape[2] != like.shape[2]:
            return None
        tokens[i] = embedding.shape[1] - (like.shape[1] - height * width)  # without the class token
    if not tokens or min(tokens.values()) < 1:
        return None
    reduction = model.feature_info[0]["reduction"]
    heights = [height for height in range(1, tokens[0] + 1) if tokens[0] % height == 0]
    sizes = [(height * reduction, tokens[0] // height * reduction) for height in heights]
    found = [_grids_at(model, size) for size in sizes]
    found = [grids for grids in found if all(h * w == tokens[i] for i, (h, w) in grids.items())]
    windows = find_windows(weights)
    found = [grids for grids in found if find_num_landmarks(windows, attention_grids(model, grids))] or found
    preferred = [own] if img_size is None else [_grids_at(model, img_size), own]
    proportion, is_row = own[0][0] / own[0][1], own[0][0] == 1

    def unlikeness(grids: Sizes) -> tuple[bool, float]:
        height, width = grids[0]
        return height != width and not is_row, abs(height / width - proportion)

    return next((grids for grids in preferred if grids in found), min(found, key=unlikeness, default=None))


def attention_grids(model: nn.Module, grids: Sizes) -> Sizes:
    """Return the grids that attentions are given: an encoder may lay its tokens out in one row."""
    if getattr(model, "layout", "grid") == "grid":
        return grids
    return {i: (1, height * width + model.num_prefix_tokens) for i, (height, width) in grids.items()}


def _grids_at(model: nn.Module, img_size: int | tuple[int, int]) -> Sizes:
    height, width = to_2tuple(img_size)
    reductions = {i: model.feature_info[i]["reduction"] for i in _own_grids(model)}
    return {i: (-(-height // reduction), -(-width // reduction)) for i, reduction in reductions.items()}


def find_windows(weights: Mapping[str, Tensor]) -> Sizes:
    """Return height and width of the landmark windows in tokens, by stage; empty where none are learned."""
    return {int(key.split(".")[1]): tuple(weights[key].shape[2:]) for key in weights if _is_window(key)}


def find_num_landmarks(windows: Sizes, grids: Sizes, preferred: int | None = None) -> int | None:
    """Return a number of landmarks for which grids of these sizes have these windows; None if no number has.

    Where several have, it is `preferred` if that is among them, else the smallest.
    """
    found = []
    sizes = [grids[stage] for stage in windows or grids]
    largest = min(min(size) ** 2 if min(size) > 1 else max(size) for size in sizes)
    squares = any(min(size) > 1 for size in sizes)  # a grid of one row takes any number
    for number in range(1, largest + 1):
        if squares and math.isqrt(number) ** 2 != number:
            continue
        samplers = {stage: LandmarkSampler(1, grids[stage], number, "avgpool") for stage in windows}
        if all(samplers[stage].kernel == window for stage, window in windows.items()):
            found.append(number)
    return preferred if preferred in found else min(found, default=None)


def _own_grids(model: nn.Module) -> Sizes:
    """Return the grids that have position embeddings: those of a pyramid's stages, or the flat encoder's input."""
    if hasattr(model, "pos_embed"):
        return {0: model.img_size}
    return {i: stage.grid for i, stage in enumerate(model.stages) if hasattr(stage, "pos_embed")}


def _embedding_key(model: nn.Module, stage: int) -> str:
    return "pos_embed" if hasattr(model, "pos_embed") else f"stages.{stage}.pos_embed"


def _is_window(key: str, stage: int | str = "") -> bool:
    return key.startswith(f"stages.{stage}") and key.endswith(WINDOW)


def _resample_windows(weights: Mapping[str, Tensor], keys: list[str], kernel: tuple[int, int]) -> dict[str, Tensor]:
    """Return the filters of one stage, (d, d, height, width) under each of `keys`, for windows of size `kernel`."""
    if len({weights[key].shape for key in keys}) != 1:
        return {}
    # One call for all blocks, because it computes a pseudo-inverse.
    filters = resample_patch_embed(torch.cat([weights[key] for key in keys]), list(kernel))
    return dict(zip(keys, filters.chunk(len(keys)), strict=True))


def _resize_projection(projection: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return Linformer's projection (N, m) for another grid, as the attention makes it for inputs of another size."""
    if old == new or projection.ndim != 2 or len(projection) != old[0] * old[1]:
        return projection
    with torch.device("meta"):
        attention = LinformerAttention(1, 1, old, 1, num_landmarks=projection.shape[1])
    attention.projection = nn.Parameter(projection, requires_grad=False)
    return attention.projection_on(new).data


def _notes(
    weights: Mapping[str, Tensor],
    resized: Mapping[str, Tensor],
    old: tuple[int, int],
    new: tuple[int, int],
    seen: Sizes,
) -> list[str]:
    """Return what was resized, given the first stage's grids and the grids that the model's attentions see."""
    notes = []
    changed = [key for key in weights if resized[key] is not weights[key] and not _is_window(key)]
    if old != new and changed:
        what = "position embeddings" if any(key.endswith("pos_embed") for key in changed) else "projections"
        notes.append(f"{what} from {_by(old)} to {_by(new)} tokens in the first stage")
    before, after = find_windows(weights), find_windows(resized)
    if differ := [stage for stage in before if before[stage] != after[stage]]:
        sides = (", ".join(_by(windows[stage]) for stage in differ) for windows in (before, after))
        kept = find_num_landmarks(before, seen)
        notes.append(
            "landmark windows from {} to {} tokens".format(*sides)
            + (f", which num_landmarks={kept} would leave as they are" if kept else "")
        )
    return notes


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
