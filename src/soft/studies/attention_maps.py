"""The paper's figure of attention maps: what chosen points of an image attend to, models side by side.

It works for any model whose attention modules are called as `forward(x, grid)` and have a method
`attention_map(x, grid, queries) -> (B, h, len(queries), N)`, such as those of `soft.attention`.
"""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from soft.errors import SettingError, first_few
from soft.runs.idle_attention import READ_ON
from soft.settings import check_numbers, check_whole

Point = Sequence[float]
# Tokens a side. Coarser maps say little: beside other models, a model is shown by its deepest map that is not coarser.
MIN_SIDE = 7
# The weights of a map are alike if the largest is at most this many times the smallest. Where attention is at work, the
# ratio reaches hundreds.
ALIKE = 3


def attention_layers(model: nn.Module) -> list[str]:
    """Return the names of the modules that give attention maps, in the order of the model."""
    return [name for name, module in model.named_modules() if hasattr(module, "attention_map")]


@torch.no_grad()
def attention_maps(
    model: nn.Module, images: Tensor, points: Sequence[Point], layers: Sequence[str], head: int | None = None
) -> dict[str, Tensor]:
    """Return what `points` attend to in each of `layers`.

    Args:
        model: run in evaluation mode, and left in the mode that it was in.
        images: (B, C, H, W) as the model takes them, on any device.
        points: [x, y] from [0, 0] at the top left to [1, 1].
        layers: names from `attention_layers`.
        head: one head of each layer, from 0; None for the mean over the heads.

    Returns:
        for each layer, by its name, (B, len(points), H, W) on the layer's grid, in float32, on the CPU.

    Raises:
        SettingError: a point lies outside the image, or a layer or head does not exist.
    """
    if not isinstance(points, Sequence) or not points:
        raise SettingError(f"points={points!r} has to be a list of [x, y], such as [[0.5, 0.5]].")
    for point in points:
        check_numbers("points", point, count=2, low=0, high=1)
    if head is not None:
        check_whole("head", head, low=0)
    known = attention_layers(model)
    maps: dict[str, Tensor] = {}

    def record(name: str):
        def hook(module: nn.Module, arguments: tuple[Tensor, tuple[int, int]]) -> None:
            x, (height, width) = arguments
            queries = [row * width + column for row, column in (_token(point, height, width) for point in points)]
            rows = module.attention_map(x, (height, width), queries)
            if head is not None and head >= rows.shape[1]:
                raise SettingError(f"head={head} is not there: {name} has heads 0 to {rows.shape[1] - 1}.")
            rows = rows.mean(1) if head is None else rows[:, head]
            maps[name] = rows.unflatten(-1, (height, width)).float().cpu()

        return hook

    handles = []
    for name in layers:
        if name not in known:
            raise SettingError(f"{name} gives no attention map; these do: {', '.join(known) or 'none'}.")
        handles.append(model.get_submodule(name).register_forward_pre_hook(record(name)))
    training = model.training
    try:
        model.eval()(images.to(next(model.parameters()).device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return maps


def draw_attention_maps(
    models: nn.Module | Mapping[str, nn.Module],
    images: Tensor,
    points: Sequence[Point],
    layers: Sequence[str] | None = None,
    head: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Figure:
    """Draw a row for each image and point: the image, then a column for each model and layer.

    Each map has a scale of its own, from dark (its smallest weight) to bright (its largest), with both numbers below:
    the weights of some attentions are nearly equal, some do not sum to one, and some are negative. A cross marks the
    point, a frame its token. Columns whose maps have nearly equal weights are named in a sentence at the bottom, the
    figure's `get_supxlabel()`: their patterns come from the scale alone.

    Args:
        models: one model, or several by the name that stands above their column. All get the same images.
        images, points, head: see `attention_maps`.
        layers: names of layers that every model has. None takes the last layer of each stage of a single model; of
            several models it takes the deepest of these layers that is not too coarse.
        mean, std: the images' normalisation, which is undone to show them; None stretches them from black to white.

    Raises:
        SettingError: see `attention_maps`; also for a model without attention maps.
    """
    named = {"": models} if isinstance(models, nn.Module) else dict(models)
    columns = []
    for name, model in named.items():
        wanted = layers or _last_layers(model)
        maps = attention_maps(model, images, points, wanted, head)
        if layers is None and len(named) > 1:
            wanted = [next((w for w in reversed(wanted) if min(maps[w].shape[2:]) >= MIN_SIDE), wanted[0])]
        for layer in wanted:
            height, width = maps[layer].shape[2:]
            lines = (name, layer.removesuffix(".attn"), f"{height}×{width} tokens")
            columns.append(("\n".join(filter(None, lines)), maps[layer]))
    figure = _draw(_pictures(images, mean, std), points, columns)
    if note := _alike_note(columns):
        figure.supxlabel(textwrap.fill(note, int(14 * figure.get_figwidth())), fontsize=8)
    return figure


def all_alike(maps: Tensor) -> bool:
    """Return whether in each map (..., H, W) no weight is more than ALIKE times another.

    The weights of a map of zeros are alike; those of a map with both signs are not.
    """
    low, high = maps.flatten(-2).aminmax(dim=-1)
    small, large = torch.minimum(low.abs(), high.abs()), torch.maximum(low.abs(), high.abs())
    return bool(((low.sign() * high.sign() >= 0) & (large <= ALIKE * small)).all())


def _alike_note(columns: Sequence[tuple[str, Tensor]]) -> str | None:
    """Return a sentence on the columns whose maps have nearly equal weights; None if there are none."""
    names = [" ".join(title.split("\n")[:-1]) for title, maps in columns if all_alike(maps)]
    if not names:
        return None
    return (
        f"All weights are alike in {first_few(names, 6)}: the largest is at most {ALIKE} times the smallest, so no "
        f"token attends to any other in particular, and the pattern says nothing; read {READ_ON}."
    )


def _token(point: Point, height: int, width: int) -> tuple[int, int]:
    """Return row and column of the token that a point lies in."""
    return min(int(point[1] * height), height - 1), min(int(point[0] * width), width - 1)


def _last_layers(model: nn.Module) -> list[str]:
    """Return the last attention layer of each stage."""
    # `stages.0.blocks.2.attn` belongs to `stages.0.blocks`.
    last = {name.rsplit(".", 2)[0]: name for name in attention_layers(model)}
    if not last:
        raise SettingError("This model has no attention that gives maps.")
    return list(last.values())


def _pictures(images: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """Turn normalised images (B, C, H, W) into pictures (B, H, W, 3) from 0 to 1."""
    images = images.detach().float().cpu()
    if mean is not None and std is not None:
        images = images * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    else:
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        images = (images - low) / (high - low).clamp(min=1e-6)
    return images.clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)


def _draw(pictures: Tensor, points: Sequence[Point], columns: Sequence[tuple[str, Tensor]]) -> Figure:
    rows = [(i, j) for i in range(len(pictures)) for j in range(len(points))]
    height, width = pictures.shape[1:3]
    side = 2.1  # inches
    size = (side * (len(columns) + 1), len(rows) * (side * height / width + 0.15) + 0.7)
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    grid = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
    for axes, (i, j) in zip(grid, rows, strict=True):
        picture = pictures[i].numpy()
        axes[0].imshow(picture, extent=(0, 1, 1, 0), aspect=height / width)
        for panel, (_, maps) in zip(axes[1:], columns, strict=True):
            _draw_map(panel, picture, maps[i, j])
            _outline_token(panel, points[j], *maps.shape[2:])
        for panel in axes:
            panel.plot(*points[j], marker="+", markersize=11, color="white", markeredgewidth=3.5)
            panel.plot(*points[j], marker="+", markersize=10, color="black", markeredgewidth=1.5)
            panel.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
            panel.spines[:].set_visible(False)
    for panel, title in zip(grid[0], ["image", *(title for title, _ in columns)], strict=True):
        panel.set_title(title, fontsize=8)
    return figure


def _draw_map(panel: Axes, picture: np.ndarray, weights: Tensor) -> None:
    """Draw the map, from its smallest weight to its largest, over the picture in pale grey."""
    height, width = picture.shape[:2]
    place = {"extent": (0, 1, 1, 0), "aspect": height / width}
    # The picture is pale, since a bright part of it could be taken for a large weight.
    panel.imshow(0.35 + 0.3 * picture.mean(-1), cmap="gray", vmin=0, vmax=1, **place)
    panel.imshow(weights.numpy(), cmap="inferno", alpha=0.8, interpolation="nearest", **place)
    panel.set_xlabel(f"{weights.min():.3g} to {weights.max():.3g}", fontsize=7)


def _outline_token(panel: Axes, point: Point, height: int, width: int) -> None:
    row, column = _token(point, height, width)
    place = (column / width, row / height)
    panel.add_patch(Rectangle(place, 1 / width, 1 / height, fill=False, edgecolor="white", linewidth=0.8))
