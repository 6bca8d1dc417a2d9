"""Measure what docs/attention.md derives: `python -m docs.attention` prints its tables and draws attention.png."""

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from soft.attention.soft import SoftAttention

GAINS = (0.1, 0.2, 0.3, 0.354, 0.45, 0.6, 0.8, 1.0)
STD = 0.02  # of the weights of linear maps at the start, in all published models


@dataclass(frozen=True)
class Start:
    """What a block's attention does before the first step, on tokens that leave a LayerNorm."""

    kernel_mean: float  # mean of P
    predicted: float  # the same by the formula
    gradient: float  # norm of the global term's gradient by Q, over the norm of V
    common: float  # norm of what the global term gives to all tokens alike, over that of the local term
    differing: float  # norm of the rest of the global term, likewise


def build(width: int, side: int, landmarks: int, gain: float, heads: int = 2) -> SoftAttention:
    """Return an attention at its start, for side×side tokens and heads of `width`."""
    torch.manual_seed(0)
    attention = SoftAttention(
        heads * width, heads, (side, side), conv_size=3, num_landmarks=landmarks, landmark_gain=gain
    )
    for module in attention.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=STD)
            nn.init.zeros_(module.bias)
    return attention


def tokens(count: int, width: int, batch: int = 8, alike: float = 0.5) -> Tensor:
    """Return normalised tokens (batch, count, width) whose correlation with each other is `alike` squared."""
    own, shared = torch.randn(batch, count, width), torch.randn(1, 1, width)
    return nn.functional.layer_norm(math.sqrt(1 - alike**2) * own + alike * shared, [width])


def predicted_kernel_mean(width: int, gain: float, heads: int = 2) -> float:
    """Return exp(−½(‖q‖² + d·g₂(gain))), with g₂ the mean of GELU(gain·z)² over normal z."""
    z = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum()
    landmark = width * (density * nn.functional.gelu(gain * z).square()).sum().item()
    query = math.sqrt(width) * STD**2 * heads * width
    return math.exp(-(query + landmark) / 2)


def measure(width: int = 32, side: int = 8, landmarks: int = 16, gain: float = 1.0) -> Start:
    """Return the start of an attention with these sizes."""
    attention, grid = build(width, side, landmarks, gain), (side, side)
    x = tokens(side * side, 2 * width)
    with torch.no_grad():
        everywhere, local = attention.branches(x, grid)
        common = everywhere.mean(2, keepdim=True).expand_as(everywhere)
        q, v = (linear(x).unflatten(-1, (2, width)).transpose(1, 2) for linear in (attention.q, attention.v))
    q.requires_grad_()
    output = attention.compose(q, v, grid)  # the local term does not depend on Q
    (gradient,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), q)
    return Start(
        kernel_mean=attention.kernel_mean(x, grid).mean().item(),
        predicted=predicted_kernel_mean(width, gain),
        gradient=(gradient.norm() / v.norm()).item(),
        common=(common.norm() / local.norm()).item(),
        differing=((everywhere - common).norm() / local.norm()).item(),
    )


def print_starts(label: str, starts: dict[object, Start]) -> None:
    """Print one table row for each start."""
    print(f"\n| {label} | mean of P | predicted | gradient | common / local | differing / local |")
    print("|---|---|---|---|---|---|")
    for value, start in starts.items():
        numbers = (start.kernel_mean, start.predicted, start.gradient, start.common, start.differing)
        print(f"| {value} |", " | ".join(f"{number:.2g}" for number in numbers), "|")


def draw(starts: dict[float, Start], path: Path) -> None:
    """Draw the mean of P and the gradient against the gain."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    gains = list(starts)
    left.semilogy(gains, [start.kernel_mean for start in starts.values()], "o", label="measured")
    left.semilogy(gains, [start.predicted for start in starts.values()], label="exp(−½(‖q‖² + d·g₂))")
    left.set(ylabel="mean of P", title="How wide the kernel is at the start")
    left.legend()
    right.semilogy(gains, [start.gradient for start in starts.values()], "o-")
    right.set(ylabel="‖∂ global term / ∂Q‖ / ‖V‖", title="What can teach it to look elsewhere")
    for axes in (left, right):
        axes.axvline(2 / math.sqrt(32), color="grey", linewidth=0.8)
        axes.set_xlabel("initial gain of the landmarks' LayerNorm (grey: 2/√d)")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the tables and draw the figure."""
    torch.set_num_threads(1)
    by_gain = {gain: measure(gain=gain) for gain in GAINS}
    print_starts("gain", by_gain)
    print_starts("d, gain 1", {width: measure(width=width) for width in (16, 32, 64, 128)})
    print_starts("d, gain 2/√d", {width: measure(width=width, gain=2 / width**0.5) for width in (16, 32, 64, 128)})
    print_starts("N, gain 2/√d", {side**2: measure(side=side, gain=2 / 32**0.5) for side in (4, 8, 16, 32)})
    print_starts("m, gain 2/√d", {m: measure(landmarks=m, gain=2 / 32**0.5) for m in (1, 4, 16, 36, 64)})
    draw(by_gain, Path(__file__).with_name("attention.png"))


if __name__ == "__main__":
    main()
