import math
import time

import pytest
import torch

from soft.benchmark.attention_growth import crossover
from soft.benchmark.cores import grid_of
from soft.benchmark.timing import interleave, ratio, slope
from soft.errors import SettingError

CPU = torch.device("cpu")


def test_calls_take_turns():
    order = []
    times = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, CPU)
    assert "".join(order) == "ab" + "ab" * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_short_calls_are_repeated():
    count = []
    times = interleave({"": lambda: (count.append(1), time.sleep(0.002))}, 1, CPU, min_seconds=0.02)
    assert len(count) > 5
    assert 0.002 <= times[""][0] < 0.02


def test_the_clock_can_leave_out_waiting():
    times = interleave({"": lambda: time.sleep(0.1)}, 1, CPU, clock=time.process_time)
    assert times[""][0] < 0.05
    assert interleave({"": lambda: time.sleep(0.1)}, 1, CPU)[""][0] >= 0.1


def test_ratio_is_of_rounds():
    assert ratio([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]) == 2.0


def test_slope_and_crossover():
    sizes = [10, 100, 1000]
    assert slope(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert crossover(sizes, [0.1, 10, 1000]) == pytest.approx(math.sqrt(10 * 100))
    assert crossover(sizes, [2, 3, 4]) == 10
    assert crossover(sizes, [0.1, 0.2, 0.3]) == math.inf


def test_grid_of():
    assert grid_of(1024, 7) == (32, 32)
    assert grid_of(2048, 7) == (32, 64)
    with pytest.raises(SettingError, match="tokens=1021"):
        grid_of(1021, 7)
