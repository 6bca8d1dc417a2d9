"""Growth of attention's time and memory with the number of tokens, at a fixed number of landmarks."""

import inspect
import math
from collections.abc import Sequence
from statistics import median

import torch

from soft.attention import ATTENTIONS, create_attention
from soft.benchmark.call_cost import MIB, peak_allocation
from soft.benchmark.cores import HEAD_WIDTH, Core, grid_of, scaled_dot_product
from soft.benchmark.growth_figure import draw_growth
from soft.benchmark.reporter import Reporter
from soft.benchmark.timing import interleave, ratio, slope

MAX_SLOPE, MAX_CROSSING = 1.05, 1024
SDPA = "torch sdpa"
HEADS, CONV_SIZE = 2, 9  # as in stage 1
MODES = ("forward", "train")
LINEAR = ("soft", "soft_norm")  # attentions whose growth has a target


def measure_growth(
    reporter: Reporter,
    device: torch.device,
    names: Sequence[str],
    tokens: Sequence[int],
    slope_from: int,
    num_landmarks: int,
    longest: float,
    rounds: int,
) -> None:
    """Measure each attention of `names`, and PyTorch's softmax attention, at each number of tokens.

    Args:
        slope_from: tokens from which the slope is fitted; with fewer, costs that do not depend on N dominate.
        num_landmarks: m of the attentions that have landmarks, a square number.
        longest: seconds; an attention is measured at no larger size if its forward and backward pass there is
            expected to take longer.
    """
    cores: dict[tuple[str, int], Core] = {}
    sizes: dict[str, list[int]] = {name: [] for name in (*names, SDPA)}
    for name, sizes_run in sizes.items():
        before = 0.0
        for size in sorted(tokens):
            reporter.step(f"attention: {name}, {size:,} tokens")
            cores[name, size] = core_of_size(name, size, num_landmarks, device)
            sizes_run.append(size)
            seconds = interleave({name: cores[name, size].train}, 1, device)[name][0]
            if before and seconds * seconds / before > longest:  # if it grows by its last factor again
                break
            before = seconds
    calls = {(name, size, mode): getattr(core, mode) for (name, size), core in cores.items() for mode in MODES}
    reporter.step(f"attention: {len(calls)} combinations in {rounds} rounds")
    times = interleave(calls, rounds, device, min_seconds=0.02)
    seconds = {key: median(values) for key, values in times.items()}
    peaks = {key: peak_allocation(core.train, device) for key, core in cores.items()}

    reporter.table(
        "attention_growth",
        f"Attention over tokens, m = {num_landmarks}, batch 1, {HEADS} heads of {HEAD_WIDTH}; train: forward+backward",
        [
            {"attention": name, "tokens": size}
            | {f"{mode}_ms": 1000 * seconds[name, size, mode] for mode in MODES}
            | {f"{mode}_us_per_token": 1e6 * seconds[name, size, mode] / size for mode in MODES}
            | {"peak_mib": peak / MIB, "peak_bytes_per_token": round(peak / size)}
            for (name, size), peak in peaks.items()
        ],
    )
    curves = {name: [(size, seconds[name, size, "train"]) for size in sizes[name]] for name in sizes}
    memory = {name: [(size, peaks[name, size] / MIB) for size in sizes[name]] for name in sizes}
    draw_growth(
        reporter.folder / "attention_growth.png",
        "tokens",
        {"forward and backward (s)": curves, "peak memory (MiB)": memory},
    )
    rows = []
    for name, fitted in sizes.items():
        fitted = [size for size in fitted if size >= slope_from]
        if len(fitted) < 2:
            continue
        row = {"attention": name, "from_tokens": fitted[0], "to_tokens": fitted[-1]}
        row |= {f"{mode}_slope": slope(fitted, [seconds[name, size, mode] for size in fitted]) for mode in MODES}
        rows.append(row | {"memory_slope": slope(fitted, [peaks[name, size] for size in fitted])})
    if rows:
        reporter.table("attention_slopes", "Slope of log time and log memory against log tokens: 1 is linear", rows)
    for row in rows:
        if row["attention"] in LINEAR:
            span = f"{row['from_tokens']:,} to {row['to_tokens']:,} tokens"
            for what in ("forward", "train", "memory"):
                reporter.target(f"{row['attention']}, slope of {what}, {span}", row[f"{what}_slope"], maximum=MAX_SLOPE)
    if "soft" in sizes:
        _compare_with_softmax(reporter, times, sizes)


def _compare_with_softmax(reporter: Reporter, times: dict, sizes: dict[str, list[int]]) -> None:
    shared = [size for size in sizes["soft"] if size in sizes[SDPA]]
    rows = []
    for size in shared:
        row: dict[str, object] = {"tokens": size}
        for mode in MODES:
            row[f"{mode}_speedup"] = ratio(times[SDPA, size, mode], times["soft", size, mode])
        rows.append(row)
    reporter.table("attention_softmax", f"soft against {SDPA} on the same Q, K, V: times faster", rows)
    for mode in MODES:
        gains = [row[f"{mode}_speedup"] for row in rows]
        if max(shared) >= MAX_CROSSING:
            crossing = crossover(shared, gains)
            reporter.target(f"tokens from which soft is faster than {SDPA}, {mode}", crossing, maximum=MAX_CROSSING)
        if 16384 in shared:
            gain = gains[shared.index(16384)]
            reporter.target(f"soft at 16,384 tokens, {mode}: times faster than {SDPA}", gain, minimum=20)


def crossover(sizes: Sequence[int], gains: Sequence[float]) -> float:
    """Return the size at which the gain passes 1, interpolated in logarithms; infinite if it never does."""
    for i, gain in enumerate(gains):
        if gain < 1:
            continue
        if i == 0:
            return float(sizes[0])
        low, high = math.log(gains[i - 1]), math.log(gain)
        return math.exp(math.log(sizes[i - 1]) + math.log(sizes[i] / sizes[i - 1]) * -low / (high - low))
    return math.inf


def core_of_size(name: str, tokens: int, num_landmarks: int, device: torch.device) -> Core:
    """Return one attention, or SDPA, on a sequence of `tokens`, with `num_landmarks` if it has landmarks."""
    grid = grid_of(tokens, math.isqrt(num_landmarks))
    if name == SDPA:
        return Core(scaled_dot_product, [], 1, HEADS, grid, device)
    takes = inspect.signature(ATTENTIONS[name]).parameters
    options = {"num_landmarks": num_landmarks} if "num_landmarks" in takes else {}
    attention = create_attention(name, HEADS * HEAD_WIDTH, HEADS, grid, CONV_SIZE, **options).to(device)
    return Core(attention.attend, list(attention.parameters()), 1, HEADS, grid, device)
