"""Draws curves.png, with loss, top-1 and the attention's share over the epochs, from metrics.csv alone."""

import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from soft.drawing import replace_figure
from soft.runs.idle_attention import MIN_SHARE, by_stage
from soft.runs.result import read_metrics


class Curves(Callback):
    """Callback that draws curves.png at the end of training, and during it at most once a minute.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self._drawn = time.monotonic()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if time.monotonic() - self._drawn > 60:
            self._draw(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            draw_curves(self.folder / "metrics.csv", self.folder / "curves.png")
            self._drawn = time.monotonic()


def draw_curves(metrics: Path, picture: Path) -> bool:
    """Draw `picture` from a metrics.csv; return False, and draw nothing, if the file holds no validation yet."""
    if not metrics.is_file():
        return False
    series = read_metrics(metrics)
    if "val/top1" not in series:
        return False
    # A Figure without pyplot needs no display and no global state, so it is safe beside a user's own plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shares = {stage: values for stage, values in by_stage(series).items() if all(share > 0 for _, share in values)}
    figure = Figure(figsize=(15 if shares else 10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, top1, *attention = panels = figure.subplots(1, 3 if shares else 2)
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
    # The axis starts near the lower quarter of the values; with the whole climb from chance, the end would look flat.
    values = sorted(value for name in ("val/top1", "val_raw/top1") for _, value in series.get(name, []))
    floor = values[len(values) // 4]
    top1.set_ylim(max(0.0, floor - 2 * (best - floor) - 1), min(100.5, best + 0.15 * (best - floor) + 0.5))

    for axes in attention:
        for stage, values in shares.items():
            epochs, of_output = zip(*values, strict=True)
            axes.plot(epochs, [100 * share for share in of_output], label=f"stage {stage}", **marker)
        axes.axhline(100 * MIN_SHARE, color=grey, linestyle=":", label="below in every stage: hardly at work")
        axes.set(title="Attention share", xlabel="epoch", ylabel="of the attention output (%)", yscale="log")

    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
    replace_figure(picture, figure, dpi=150)
    return True
