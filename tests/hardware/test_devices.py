import os

import pytest
import torch

from soft.errors import SettingError
from soft.hardware import devices


def pretend(monkeypatch, count: int = 0, capability: tuple[int, int] = (8, 0), archs: str = "sm_80 sm_90") -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch._C, "_cuda_getArchFlags", lambda: archs, raising=False)


def test_auto_takes_what_is_there(monkeypatch):
    pretend(monkeypatch, count=2)
    assert devices.choose_accelerator("auto") == "cuda"
    assert devices.count_devices("cuda", "auto") == 2
    assert devices.count_devices("cuda", [1]) == 1
    pretend(monkeypatch, count=0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.choose_accelerator("auto") == "cpu"
    assert devices.choose_accelerator("gpu") == "cuda"
    assert devices.count_devices("cpu", "auto") == 1


def test_cpu_processes_may_outnumber_cores_on_request():
    many = 10 * (os.cpu_count() or 1)
    assert devices.count_devices("cpu", many, oversubscribe=True) == many
    with pytest.raises(SettingError, match=f"trainer.devices={many}"):
        devices.count_devices("cpu", many)


@pytest.mark.parametrize("value", [0, -2, 1.5, "two", True, []])
def test_devices_out_of_range(value):
    with pytest.raises(SettingError, match=r"trainer\.devices"):
        devices.count_devices("cpu", value)


def test_unknown_accelerator():
    with pytest.raises(SettingError, match="cpu, gpu"):
        devices.choose_accelerator("tpu")


def test_too_few_gpus(monkeypatch):
    pretend(monkeypatch, count=2)
    with pytest.raises(SettingError, match="needs 4 GPUs on each node, and this machine has 2 CUDA GPUs"):
        devices.check_gpus("trainer=gpu_ddp", "cuda", 4)


def test_indices_of_gpus_that_are_not_there(monkeypatch):
    pretend(monkeypatch, count=2)
    devices.check_gpus("trainer=gpu_ddp", "cuda", 2, devices=[0, 1])
    with pytest.raises(SettingError, match=r"trainer\.devices=\[1, 2\] names a GPU .*; its GPUs are 0 to 1"):
        devices.check_gpus("trainer=gpu_ddp", "cuda", 2, devices=[1, 2])


def test_build_without_kernels_for_a_v100(monkeypatch):
    pretend(monkeypatch, count=8, capability=(7, 0), archs="sm_75 sm_80")
    with pytest.raises(SettingError, match=r"no kernels for V100 GPUs \(sm_70\).*torch==2\.14\.\*.*cu126"):
        devices.check_gpus("trainer=gpu", "cuda", 1)


def test_build_without_kernels_for_a_new_gpu(monkeypatch):
    pretend(monkeypatch, count=1, capability=(13, 0))
    with pytest.raises(SettingError, match=r"no kernels for sm_130 GPUs \(it has sm_80, sm_90\)"):
        devices.check_gpus("trainer=gpu", "cuda", 1)


@pytest.mark.parametrize(("capability", "archs"), [((8, 0), "sm_80"), ((8, 9), "sm_86"), ((7, 0), "sm_50 sm_70")])
def test_kernels_of_the_same_major_version_run(monkeypatch, capability, archs):
    pretend(monkeypatch, count=1, capability=capability, archs=archs)
    devices.check_gpus("trainer=gpu", "cuda", 1)


def test_apple_gpu_missing(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingError, match="MPS"):
        devices.check_gpus("trainer=gpu", "mps", 1)


@pytest.mark.parametrize("archs", ["sm_80 compute_80", "sm_80 compute_90"])
def test_intermediate_code_runs_on_later_gpus(monkeypatch, archs):
    pretend(monkeypatch, count=1, capability=(9, 0), archs=archs)
    devices.check_gpus("trainer=gpu", "cuda", 1)


def test_intermediate_code_for_later_gpus_does_not(monkeypatch):
    pretend(monkeypatch, count=1, capability=(9, 0), archs="sm_80 compute_100")
    with pytest.raises(SettingError, match=r"no kernels for sm_90 GPUs"):
        devices.check_gpus("trainer=gpu", "cuda", 1)


def test_gpus_of_amd_are_taken(monkeypatch):
    pretend(monkeypatch, count=1, capability=(9, 4), archs="gfx90a gfx942")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    devices.check_gpus("trainer=gpu", "cuda", 1)
