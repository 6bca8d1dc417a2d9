import torch

from soft.hardware.memory import GIB, device_memory, gib, host_memory, peak_memory


def test_memory_of_devices_that_are_not_here():
    assert device_memory("cpu", 2, None) == host_memory() // 2
    assert device_memory("cpu", 2, 3) == 3 * GIB
    assert GIB / 4 < host_memory() < 2**50


def test_memory_of_a_v100_elsewhere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_memory("cuda", 8, 32) == 32 * GIB
    assert device_memory("cuda", 8, None) is None


def test_the_peak_of_a_process_rises_with_what_it_holds():
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(50_000_000)  # 200 MB
    assert peak_memory(torch.device("cpu")) >= max(before, held.nbytes)


def test_bytes_as_text():
    assert [gib(size) for size in (3 * GIB // 2, GIB // 8, 5 * 2**20)] == ["1.50 GiB", "0.12 GiB", "5.0 MiB"]
