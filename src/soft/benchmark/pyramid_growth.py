"""Growth of the whole pyramid's time and memory with the image size, at a fixed number of landmarks."""

from collections.abc import Sequence
from statistics import median

import timm
import torch

from soft.benchmark.attention_growth import MAX_SLOPE
from soft.benchmark.call_cost import MIB, peak_allocation
from soft.benchmark.growth_figure import draw_growth
from soft.benchmark.reporter import Reporter
from soft.benchmark.timing import interleave, slope

MODES = ("forward", "train")


def measure_pyramid(
    reporter: Reporter,
    device: torch.device,
    model: str,
    img_sizes: Sequence[int],
    max_trained: int,
    rounds: int,
) -> None:
    """Measure time and memory of one image through `model`, built for each image size so that m stays the same.

    Args:
        img_sizes: pixels.
        max_trained: pixels; larger images are only run forwards, since training keeps every activation.
    """
    calls, peaks = {}, {}
    for size in sorted(img_sizes):
        reporter.step(f"pyramid: {model}, {size} px")
        net = timm.create_model(model, img_size=size).to(device)
        images = torch.randn(1, 3, size, size, device=device)
        calls[size, "forward"] = _forward(net, images)
        peaks[size, "forward"] = peak_allocation(calls[size, "forward"], device)
        if size <= max_trained:
            calls[size, "train"] = _train(net, images)
            peaks[size, "train"] = peak_allocation(calls[size, "train"], device)
    reporter.step(f"pyramid: {len(calls)} combinations in {rounds} rounds")
    seconds = {key: median(values) for key, values in interleave(calls, rounds, device, min_seconds=0.1).items()}

    rows = []
    for size in sorted(img_sizes):
        row: dict[str, object] = {"img_size": size}
        for mode in MODES:
            known = (size, mode) in seconds
            row[f"{mode}_s"] = seconds[size, mode] if known else None
            row[f"{mode}_s_per_megapixel"] = seconds[size, mode] / size**2 * 1e6 if known else None
            row[f"{mode}_peak_mib"] = peaks[size, mode] / MIB if known else None
        rows.append(row)
    reporter.table("pyramid", f"{model}, one image; train: forward+backward", rows)
    draw_growth(
        reporter.folder / "pyramid.png",
        "pixels",
        {
            "seconds": _curves(seconds),
            "peak memory (MiB)": _curves({key: peak / MIB for key, peak in peaks.items()}),
        },
    )
    for mode in MODES:
        sizes = [size for size, measured in seconds if measured == mode]
        if len(sizes) > 1:
            pixels = [size**2 for size in sizes]
            span = f"{model}, slope of {{}} against pixels, {mode}, {sizes[0]} to {sizes[-1]} px"
            reporter.target(
                span.format("time"), slope(pixels, [seconds[size, mode] for size in sizes]), maximum=MAX_SLOPE
            )
            reporter.target(
                span.format("memory"), slope(pixels, [peaks[size, mode] for size in sizes]), maximum=MAX_SLOPE
            )


def _forward(net: torch.nn.Module, images: torch.Tensor):
    @torch.no_grad()
    def call() -> None:
        net.eval()
        net(images)

    return call


def _train(net: torch.nn.Module, images: torch.Tensor):
    def call() -> None:
        net.train()
        torch.autograd.grad(net(images).sum(), list(net.parameters()))

    return call


def _curves(values: dict[tuple[int, str], float]) -> dict[str, list[tuple[float, float]]]:
    found = {mode: [(size**2, value) for (size, kind), value in values.items() if kind == mode] for mode in MODES}
    return {mode: points for mode, points in found.items() if points}
