"""Loaders fit the device that takes their batches."""

import pytest
from torch.utils.data import SequentialSampler

from soft.data import loading
from soft.errors import SettingError


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


@pytest.mark.parametrize(
    ("devices", "limit", "seen"),
    [(1, None, None), (1, 1.0, None), (1, 100, None), (1, 1, 4), (2, 1, 8), (1, 0.5, 4), (3, 2, None), (2, 0.99, 8)],
)
def test_a_limit_that_leaves_validation_images_out_is_said(devices, limit, seen):
    note = loading.limit_note(11, 4, devices, limit, "image")
    if seen is None:
        assert note is None
    else:
        assert f"limit_val_batches={limit}: validation sees {seen} of the 11 images" in note
    with pytest.raises(SettingError, match=r"trainer\.limit_val_batches=0\.1 leaves none of 3 batches"):
        loading.limit_note(11, 4, 1, 0.1, "image")
