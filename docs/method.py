"""Draw the figures of docs/method.md: `python -m docs.method` writes method_*.png beside it."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from soft.attention.reference import gaussian_kernel, kernel_inverse, mix

STAGES = ((56, 8), (28, 4), (14, 2))  # tokens on a side at 224 px, and the stride between landmarks
SIDE, WIDTH = 16, 8  # grid of the tokens that are approximated, and the width of their head
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"


def draw_kernel() -> Figure:
    """Draw the weight that a query gives to every key of the plane, by the softmax's kernel and by the Gaussian one."""
    axis = torch.linspace(-3, 3, 121)
    keys = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2)
    query = torch.tensor([[[1.0, 0.7]]])
    weights = {
        "softmax: exp(q·k)": torch.exp(query @ keys.transpose(1, 2)),
        "SOFT: exp(−½‖q − k‖²)": gaussian_kernel(query, keys),
    }
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.7), layout="constrained")
    for axes, (title, weight) in zip(panels, weights.items(), strict=True):
        image = axes.imshow(weight.reshape(121, 121), extent=(-3, 3, -3, 3), origin="lower", cmap="viridis")
        axes.plot(*query[0, 0], "w+", markersize=12, markeredgewidth=2)
        axes.annotate("q", query[0, 0].tolist(), (7, 5), textcoords="offset points", color="white")
        axes.set(title=title, xlabel="first channel of k", ylabel="second channel of k")
        figure.colorbar(image, ax=axes, shrink=0.85, label="weight of k")
    return figure


def draw_landmarks() -> Figure:
    """Draw the grids of the three stages, with the windows from which landmarks are sampled."""
    figure, panels = plt.subplots(1, 3, figsize=(10, 4.1), layout="constrained")
    for number, (axes, (side, stride)) in enumerate(zip(panels, STAGES, strict=True), start=1):
        for place in range(side + 1):
            width, color = (1.3, BLUE) if place % stride == 0 else (0.3, GREY)
            axes.axhline(place, color=color, linewidth=width)
            axes.axvline(place, color=color, linewidth=width)
        middles = torch.arange(7) * stride + stride / 2
        axes.plot(middles.repeat(7), middles.repeat_interleave(7), "o", color=ORANGE, markersize=4)
        axes.set(xlim=(0, side), ylim=(side, 0), xticks=[], yticks=[], aspect="equal")
        axes.set_title(f"stage {number}: {side}×{side} = {side * side:,} tokens\n7×7 windows of {stride}×{stride}")
    return figure


def smooth_tokens() -> Tensor:
    """Return tokens (1, 1, N, d) that change slowly over their grid, as those of an image do."""
    torch.manual_seed(0)
    coarse = 0.6 * torch.randn(1, WIDTH, 5, 5)
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic", align_corners=True).flatten(2).transpose(1, 2)[None]


def approximate(tokens: Tensor, side: int) -> Tensor:
    """Return P·A⁺·Pᵀ (N, N) for side² landmarks that are means of windows."""
    image = tokens[0].transpose(1, 2).unflatten(2, (SIDE, SIDE))
    landmarks = F.avg_pool2d(image, SIDE // side).flatten(2).transpose(1, 2)[None]
    inverse = kernel_inverse(gaussian_kernel(landmarks, landmarks))
    return mix(gaussian_kernel(tokens, landmarks), inverse, torch.eye(tokens.shape[2]))[0, 0]


def draw_nystrom() -> Figure:
    """Draw the kernel between all tokens, what landmarks make of it, and the error by their number."""
    tokens = smooth_tokens()
    exact = gaussian_kernel(tokens, tokens)[0, 0]
    found = {side * side: approximate(tokens, side) for side in (1, 2, 4, 8)}
    errors = {m: ((rows - exact).norm() / exact.norm()).item() for m, rows in found.items()}
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
    pictures = {f"exact, {exact.shape[0]}×{exact.shape[0]}": exact, "m = 4": found[4], "m = 16": found[16]}
    for axes, (title, rows) in zip(panels, pictures.items(), strict=False):
        axes.imshow(rows, vmin=0, vmax=1, cmap="magma")
        axes.set(title=title, xticks=[], yticks=[])
    panels[3].plot(list(errors), list(errors.values()), "o-", color=BLUE)
    panels[3].set(xscale="log", xlabel="landmarks m", ylabel="‖P·A⁺·Pᵀ − S‖ / ‖S‖", ylim=(0, 1))
    panels[3].set_xticks(list(errors), [str(m) for m in errors])
    panels[3].minorticks_off()
    panels[3].grid(alpha=0.3)
    for m, error in errors.items():
        print(f"m = {m}: relative error {error:.2f}")
    return figure


def inverted_share(eigenvalue: Tensor, iters: int) -> Tensor:
    """Return λ·v after so many steps, where 1 is inverted: 1 − (1 − α·λ²)^(2^T), for a largest eigenvalue of 1."""
    v = 0.9 * 2 / 1.0**2 * eigenvalue
    for _ in range(iters):
        v = 2 * v - v * eigenvalue * v
    return eigenvalue * v


def multiply_adds(tokens: Tensor, width: int = 32, landmarks: int = 49, iters: int = 20) -> dict[str, Tensor]:
    """Return the multiply-adds of one head, without its linear maps and convolutions, for numbers of tokens."""
    shared = 2 * landmarks**2 * width + 2 * iters * landmarks**3  # A, A⁺·(Pᵀ·V), and two products a step
    return {
        "softmax, 2·N²·d": 2 * tokens**2 * width,
        "SOFT, 3·N·m·d + 2·m²·d + 2·T·m³": 3 * tokens * landmarks * width + shared,
    }


def draw_newton_and_cost() -> Figure:
    """Draw what Newton's steps invert, and how the cost grows."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
    eigenvalue = torch.logspace(-4, 0, 400, dtype=torch.float64)
    for iters in (2, 5, 10, 20):
        left.semilogx(eigenvalue, inverted_share(eigenvalue, iters), label=f"T = {iters}")
    left.set(xlabel="eigenvalue of A / the largest", ylabel="share of it that is inverted", title="Newton's steps")
    left.legend()
    tokens = torch.logspace(2, 5, 100, dtype=torch.float64)
    for (label, cost), color in zip(multiply_adds(tokens).items(), (ORANGE, BLUE), strict=True):
        right.loglog(tokens, cost, color=color, label=label)
    right.set(xlabel="tokens N", ylabel="multiply-adds of a head", title="Cost, d = 32, m = 49, T = 20")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


FIGURES = {
    "kernel": draw_kernel,
    "landmarks": draw_landmarks,
    "nystrom": draw_nystrom,
    "newton": draw_newton_and_cost,
}


def main() -> None:
    """Draw all figures."""
    torch.set_num_threads(1)
    for name, draw in FIGURES.items():
        draw().savefig(Path(__file__).with_name(f"method_{name}.png"), dpi=110)


if __name__ == "__main__":
    main()
