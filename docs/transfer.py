"""Measure the cost of features against pixels, for docs/transfer.md: `python -m docs.transfer` draws transfer.png."""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from matplotlib.figure import Figure
from torch import nn

import soft  # noqa: F401 - registers the models with timm
from soft.models.flops import count_macs

SIZES = ((224, 224), (320, 320), (448, 448), (512, 512), (640, 640), (800, 1333), (1200, 2000), (1600, 2666))
TIMED = SIZES[:6]
PYRAMIDS = {
    "softmax": {"attention": "softmax"},
    "SOFT, windows of 224 px": {},
    "SOFT, dynamic_img_size": {"dynamic_img_size": True},
}
COLORS = ("#d55e00", "0.5", "#0072b2")


def build(**options: object) -> nn.Module:
    """Return soft_tiny's feature pyramid in evaluation mode."""
    torch.manual_seed(0)
    return timm.create_model("soft_tiny", features_only=True, **options).eval()


def giga_macs(options: dict[str, object]) -> list[float]:
    """Return the multiply-accumulates of one image of each size, in 10⁹."""
    with torch.device("meta"):
        model = build(**options)
    return [count_macs(model, (3, *size)) / 1e9 for size in SIZES]


@torch.no_grad()
def cpu_seconds(options: dict[str, object]) -> list[float]:
    """Return the CPU time of one image of each size in TIMED, the smaller of two runs."""
    model, seconds = build(**options), []
    for size in TIMED:
        image, runs = torch.randn(1, 3, *size), []
        for _ in range(2):
            start = time.process_time()
            model(image)
            runs.append(time.process_time() - start)
        seconds.append(min(runs))
    return seconds


def slope(costs: list[float]) -> float:
    """Return the exponent p of the fit cost ∝ pixels^p, for costs of the first sizes."""
    pixels = [height * width for height, width in SIZES[: len(costs)]]
    return np.polyfit(np.log(pixels), np.log(costs), 1)[0]


def draw(macs: dict[str, list[float]], seconds: dict[str, list[float]]) -> Figure:
    """Draw both costs against pixels."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    titles = ("multiply-accumulates of an image, 10⁹", "seconds of an image on one CPU core")
    for axes, costs, title in zip(panels, (macs, seconds), titles, strict=True):
        for (name, values), color in zip(costs.items(), COLORS, strict=True):
            pixels = [height * width for height, width in SIZES[: len(values)]]
            axes.loglog(pixels, values, "o-", color=color, label=f"{name}: pixels^{slope(values):.2f}")
        axes.set(xlabel="pixels", ylabel=title)
        shown = [size for size in ((224, 224), (512, 512), (800, 1333), (1600, 2666)) if size in SIZES[: len(values)]]
        axes.set_xticks([height * width for height, width in shown], [f"{height}×{width}" for height, width in shown])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def main() -> None:
    """Print the table and draw the figure."""
    torch.set_num_threads(1)
    macs = {name: giga_macs(options) for name, options in PYRAMIDS.items()}
    seconds = {name: cpu_seconds(options) for name, options in PYRAMIDS.items()}
    print("| pixels |", " | ".join(f"{height}×{width}" for height, width in SIZES), "| slope |")
    for name in PYRAMIDS:
        print(f"| {name}, GMACs |", " | ".join(f"{value:,.1f}" for value in macs[name]), f"| {slope(macs[name]):.2f} |")
        timed = " | ".join(f"{value:.2f}" for value in seconds[name])
        print(f"| {name}, seconds |", timed, f"| {slope(seconds[name]):.2f} |")
    draw(macs, seconds).savefig(Path(__file__).with_name("transfer.png"), dpi=110)


if __name__ == "__main__":
    main()
