"""Times of calls that are compared, taken in turns in one process so that a disturbance meets all of them."""

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import linear_regression, median

import torch

Call = Callable[[], object]


def interleave(
    calls: Mapping[Hashable, Call],
    rounds: int,
    device: torch.device,
    min_seconds: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Hashable, list[float]]:
    """Time every call once per round, one after the other, and return the seconds of each call by round.

    Args:
        calls: calls by name; each is made once before the rounds, untimed.
        rounds: number of times that each call is timed.
        device: its work is finished before the clock is read.
        min_seconds: shortest time of a figure; shorter calls are repeated within a round and averaged.
        clock: seconds that count; `time.process_time` leaves out the time in which other programs had the processor.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, math.ceil(min_seconds / _seconds(call, 1, device, clock))) if min_seconds else 1
    times: dict[Hashable, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(_seconds(call, repeats[name], device, clock) / repeats[name])
    return times


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return how many times faster the second call is: the median over rounds of the quotient of the two figures."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit a power law through the points by least squares of the logarithms, and return its exponent."""
    return linear_regression([math.log(size) for size in sizes], [math.log(value) for value in values]).slope


def wait(device: torch.device) -> None:
    """Wait until `device` has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _seconds(call: Call, repeats: int, device: torch.device, clock: Callable[[], float]) -> float:
    wait(device)
    start = clock()
    for _ in range(repeats):
        call()
    wait(device)
    return clock() - start
