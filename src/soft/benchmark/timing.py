"""Times of calls that are compared: taken in turns in one process, so that what disturbs one disturbs all."""

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import linear_regression, median

import torch

Call = Callable[[], object]


def interleave(
    calls: Mapping[Hashable, Call], rounds: int, device: torch.device, least: float = 0.0
) -> dict[Hashable, list[float]]:
    """Seconds of each call, one figure a round; every round makes all of them, one after the other.

    Args:
        calls: by name; each is made once before the rounds, untimed.
        rounds: how often each is timed.
        device: waited for before the clock is read.
        least: seconds that a figure should be taken over; shorter calls are repeated within a round and averaged.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, math.ceil(least / _seconds(call, 1, device))) if least else 1
    times: dict[Hashable, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call, repeats[name], device) / repeats[name])
    return times


def ratio(slow: list[float], fast: list[float]) -> float:
    """How many times faster: the median over rounds of the two figures' quotient."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent of the power law through the points: least squares of log value against log size."""
    return linear_regression([math.log(size) for size in sizes], [math.log(value) for value in values]).slope


def wait(device: torch.device) -> None:
    """Until `device` has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _seconds(call: Call, repeats: int, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    wait(device)
    return time.perf_counter() - start
