"""Loaders fit the device that takes their batches."""

import pytest
from torch.utils.data import SequentialSampler

from soft.data import loading


@pytest.mark.parametrize(
    ("device", "cores", "workers"), [("cpu", 4, 4), ("cpu", 64, 8), ("cuda", 64, 16), ("cuda", 4, 4)]
)
def test_a_gpu_has_more_workers_where_there_are_cores(device, cores, workers, monkeypatch):
    monkeypatch.setattr(loading, "cores_per_process", lambda devices: cores // devices)
    assert loading.share_of_cores(1, device) == workers


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda", True)])
def test_memory_is_pinned_for_gpus_alone(device, pinned):
    loader = loading.create_loader([0], SequentialSampler([0]), 1, 0, device)
    assert loader.pin_memory is pinned
