"""curves.png: loss and top-1 over epochs, from metrics.csv alone."""

import csv
from collections import defaultdict
from pathlib import Path


def read_metrics(path: Path) -> dict[str, list[tuple[float, float]]]:
    """metrics.csv -> for each metric its (epoch, value) pairs, the epoch counted from 1 at its end."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("epoch", "step") and value:
                    series[name].append((float(row["epoch"]) + 1, float(value)))
    return dict(series)


def draw_curves(metrics: Path, picture: Path) -> bool:
    """Draws `picture`; returns False, and draws nothing, while there is no validation in `metrics` yet."""
    if not metrics.is_file():
        return False
    series = read_metrics(metrics)
    if "val/top1" not in series:
        return False
    # Figure alone, without pyplot: no display, no global state, safe beside any other plotting of the user's.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, top1 = figure.subplots(1, 2)
    blue, orange, grey = "#3b6fb6", "#d1752c", "#9a9a9a"

    def draw(axes, name: str, label: str, colour: str, **style: object) -> None:
        if name in series:
            epochs, values = zip(*series[name], strict=True)
            axes.plot(epochs, values, label=label, color=colour, **style)

    marker = {"marker": "o", "markersize": 3} if len(series["val/top1"]) <= 60 else {}
    draw(loss, "train/loss_epoch", "training (with augmentation)", grey, **marker)
    draw(loss, "val_raw/loss", "validation, raw weights", orange, linewidth=1, linestyle="--")
    draw(loss, "val/loss", "validation", blue, **marker)
    loss.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")

    draw(top1, "val_raw/top1", "raw weights", orange, linewidth=1, linestyle="--")
    draw(top1, "val/top1", "averaged weights" if "val_raw/top1" in series else "validation", blue, **marker)
    best_epoch, best = max(series["val/top1"], key=lambda pair: pair[1])
    top1.scatter([best_epoch], [best], color=blue, s=60, zorder=3, label=f"best: {best:.2f} % (epoch {best_epoch:.0f})")
    top1.set(title="Validation top-1", xlabel="epoch", ylabel="top-1 accuracy (%)")
    # The climb from chance would press the interesting part against the top.
    values = sorted(value for name in ("val/top1", "val_raw/top1") for _, value in series.get(name, []))
    floor = values[len(values) // 4]
    top1.set_ylim(max(0.0, floor - 2 * (best - floor) - 1), min(100.5, best + 0.15 * (best - floor) + 0.5))

    for axes in (loss, top1):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
    partial = picture.with_suffix(".partial.png")
    figure.savefig(partial, dpi=150)
    partial.replace(picture)
    return True
