"""The average of weights rounds the same in a resumed training, on whatever device it is."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from soft.training.weight_average import WeightAverage


def averaged(steps: range, state: dict | None = None, dtype: torch.dtype = torch.bfloat16) -> dict:
    """Return the average after some steps, each of which sets the weights to other values."""
    model = nn.Linear(64, 64).to(dtype)
    average = WeightAverage(model, decay=0.99)
    if state is not None:
        average.load_state_dict(state)
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        model.weight.data = torch.randn(64, 64, generator=generator).to(dtype)
        model.bias.data.fill_(step)
        average.update(model, step)
    return average.state_dict()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_resumed_average_is_that_of_one_training(dtype):
    whole = averaged(range(1, 9), dtype=dtype)
    first = averaged(range(1, 5), dtype=dtype)
    resumed = averaged(range(5, 9), first, dtype)

    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_the_generator_is_where_the_weights_are():
    model = nn.Linear(2, 2).bfloat16()
    average = WeightAverage(model, decay=0.9)
    average._sr_generator = SimpleNamespace(device=torch.device("meta"))  # as after a move to another device

    average.update(model, 5)

    assert average._sr_generator.device == torch.device("cpu")
