"""How time and memory grow with the number of tokens, at a fixed number of landmarks."""

import inspect
import math
from collections.abc import Sequence
from statistics import median

import torch

from soft.attention import ATTENTIONS, create_attention
from soft.benchmark.cores import HEAD_WIDTH, Core, grid_of, scaled_dot_product
from soft.benchmark.figure import draw_growth
from soft.benchmark.memory import MIB, peak_memory
from soft.benchmark.report import Report
from soft.benchmark.timing import interleave, ratio, slope

MOST_SLOPE, MOST_CROSSING = 1.05, 1024
SDPA = "torch sdpa"
HEADS, CONV_SIZE = 2, 9  # those of stage 1
MODES = ("forward", "train")
LINEAR = ("soft", "soft_norm")  # that we promise it of


def measure_growth(
    report: Report,
    device: torch.device,
    names: Sequence[str],
    tokens: Sequence[int],
    slope_from: int,
    num_landmarks: int,
    longest: float,
    rounds: int,
) -> None:
    """Time and memory of each attention of `names`, and of PyTorch's softmax attention, over `tokens`.

    Args:
        slope_from: tokens from which on the slope is fitted; below, what does not depend on N counts.
        num_landmarks: m of the attentions that have it, a square number.
        longest: seconds; where one forward and backward pass is expected to take longer, an attention goes no further.
    """
    cores: dict[tuple[str, int], Core] = {}
    sizes: dict[str, list[int]] = {name: [] for name in (*names, SDPA)}
    for name, sizes_run in sizes.items():
        before = 0.0
        for size in sorted(tokens):
            report.step(f"attention: {name}, {size:,} tokens")
            cores[name, size] = core_of_size(name, size, num_landmarks, device)
            sizes_run.append(size)
            seconds = interleave({name: cores[name, size].train}, 1, device)[name][0]
            if before and seconds * seconds / before > longest:  # if it grows as it last did
                break
            before = seconds
    calls = {(name, size, mode): getattr(core, mode) for (name, size), core in cores.items() for mode in MODES}
    report.step(f"attention: {len(calls)} combinations in {rounds} rounds")
    times = interleave(calls, rounds, device, least=0.02)
    seconds = {key: median(values) for key, values in times.items()}
    peaks = {key: peak_memory(core.train, device) for key, core in cores.items()}

    report.table(
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
        report.folder / "attention_growth.png",
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
        report.table("attention_slopes", "Slope of log time and log memory against log tokens: 1 is linear", rows)
    for row in rows:
        if row["attention"] in LINEAR:
            span = f"{row['from_tokens']:,} to {row['to_tokens']:,} tokens"
            for what in ("forward", "train", "memory"):
                report.target(f"{row['attention']}, slope of {what}, {span}", row[f"{what}_slope"], most=MOST_SLOPE)
    if "soft" in sizes:
        _compare_with_softmax(report, times, sizes)


def _compare_with_softmax(report: Report, times: dict, sizes: dict[str, list[int]]) -> None:
    shared = [size for size in sizes["soft"] if size in sizes[SDPA]]
    rows = []
    for size in shared:
        row: dict[str, object] = {"tokens": size}
        for mode in MODES:
            row[f"{mode}_speedup"] = ratio(times[SDPA, size, mode], times["soft", size, mode])
        rows.append(row)
    report.table("attention_softmax", f"soft against {SDPA} on the same Q, K, V: times faster", rows)
    for mode in MODES:
        gains = [row[f"{mode}_speedup"] for row in rows]
        if max(shared) >= MOST_CROSSING:
            crossing = crossover(shared, gains)
            report.target(f"tokens from which soft is faster than {SDPA}, {mode}", crossing, most=MOST_CROSSING)
        if 16384 in shared:
            gain = gains[shared.index(16384)]
            report.target(f"soft at 16,384 tokens, {mode}: times faster than {SDPA}", gain, least=20)


def crossover(sizes: Sequence[int], gains: Sequence[float]) -> float:
    """Size at which a gain that grows with it passes 1, between sizes along a line in logs; infinite if it does not."""
    for i, gain in enumerate(gains):
        if gain < 1:
            continue
        if i == 0:
            return float(sizes[0])
        low, high = math.log(gains[i - 1]), math.log(gain)
        return math.exp(math.log(sizes[i - 1]) + math.log(sizes[i] / sizes[i - 1]) * -low / (high - low))
    return math.inf


def core_of_size(name: str, tokens: int, num_landmarks: int, device: torch.device) -> Core:
    """One attention, or SDPA, on a sequence of `tokens`, with `num_landmarks` where it has landmarks."""
    grid = grid_of(tokens, math.isqrt(num_landmarks))
    if name == SDPA:
        return Core(scaled_dot_product, [], 1, HEADS, grid, device)
    takes = inspect.signature(ATTENTIONS[name]).parameters
    options = {"num_landmarks": num_landmarks} if "num_landmarks" in takes else {}
    attention = create_attention(name, HEADS * HEAD_WIDTH, HEADS, grid, CONV_SIZE, **options).to(device)
    return Core(attention.attend, list(attention.parameters()), 1, HEADS, grid, device)
