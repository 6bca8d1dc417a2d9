"""Where the kernels run, and what is said where they do not."""

import logging
import re

import pytest
import torch

from soft.attention.kernels import availability
from soft.attention.kernels.availability import check_kernels, check_sizes, kernels_work, largest_error, why_not
from soft.errors import SettingError
from tests.attention.kernels.interpreter import interpreted
from tests.marks import slow

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def untried():
    """Forget what has been tried in this process, before and after a test."""

    def forget():
        availability._failed.clear()
        for cached in (availability._try_once, availability.has_triton, availability._why_not_gpu):
            cached.cache_clear()

    forget()
    yield
    forget()


@interpreted
@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("m", [1, 16, slow(49)])
def test_the_kernels_agree_with_pytorch_by_far(m, normalised):
    assert largest_error(CPU, m, 32, normalised) < availability.MAX_ERROR / 50


@pytest.mark.slow
@interpreted
def test_products_in_plain_tf32_would_not_pass(monkeypatch):
    from triton.runtime.interpreter import InterpreterBuilder

    create_dot = InterpreterBuilder.create_dot

    def rounded(operand):
        values = (operand.data.view("int32") + 0x1000) & ~0x1FFF  # ten bits of the mantissa
        return type(operand)(values.view("float32"), operand.dtype)

    def in_tf32(builder, a, b, *rest):
        return create_dot(builder, rounded(a), rounded(b), *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", in_tf32)
    assert largest_error(CPU, 49, 32, False) > 2 * availability.MAX_ERROR


@interpreted
def test_it_is_tried_once_for_each_size_and_leaves_the_random_state_alone(monkeypatch):
    tried = []
    monkeypatch.setattr(availability, "largest_error", lambda *sizes: tried.append(sizes) or 1e-6)
    state = torch.random.get_rng_state()
    for _ in range(2):
        assert kernels_work(CPU, 49, 32, False)
        assert kernels_work(CPU, 16, 32, True)
    assert tried == [(CPU, 49, 32, False), (CPU, 16, 32, True)]
    monkeypatch.undo()
    with torch.inference_mode():
        assert kernels_work(CPU, 16, 8, False)
    assert torch.equal(torch.random.get_rng_state(), state)


def wrong(*_: object) -> float:
    return 0.02


def nan(*_: object) -> float:
    return float("nan")


def broken(*_: object) -> float:
    raise RuntimeError("ptxas\nexited with 255")


@interpreted
@pytest.mark.parametrize(
    ("attempt", "problem"),
    [
        (wrong, "differ from PyTorch's result by 2.0e-02, more than 0.0001"),
        (nan, "differ from PyTorch's result by nan"),
        (broken, r"cannot be used \(RuntimeError: ptxas exited with 255\)"),
    ],
)
def test_kernels_that_fail_are_left_with_one_warning(attempt, problem, monkeypatch, caplog):
    monkeypatch.setattr(availability, "largest_error", attempt)
    with caplog.at_level(logging.WARNING):
        assert not any(kernels_work(CPU, m, 32, False) for m in (49, 16, 49))
    (record,) = caplog.records
    assert re.search(problem, record.getMessage())
    assert record.getMessage().endswith("on cpu; PyTorch computes the attention instead.")


def gpu(monkeypatch, capability: tuple[int, int], name: str) -> torch.device:
    monkeypatch.setattr(availability, "has_triton", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    return torch.device("cuda", 0)


def test_the_compute_capability_counts(monkeypatch):
    assert why_not(gpu(monkeypatch, (8, 0), "A100")) is None
    availability._why_not_gpu.cache_clear()
    with pytest.raises(
        SettingError, match=r"kernels=triton needs .* 8\.0 or more, and V100 has 7\.0; take kernels=auto"
    ):
        check_kernels(gpu(monkeypatch, (7, 0), "V100"))
    assert not kernels_work(torch.device("cuda", 0), 49, 32, False)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cpu", "runs on a CPU in Triton's interpreter alone, which TRITON_INTERPRET=1 in the environment switches on"),
        ("mps", "is for NVIDIA GPUs, and this device is mps"),
        ("cuda", "is for NVIDIA GPUs, and this machine has none"),
    ],
)
def test_other_devices_are_refused(device, message, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(availability, "has_triton", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match=f"kernels=triton {message}; take kernels=auto"):
        check_kernels(torch.device(device))


def test_a_machine_without_triton(monkeypatch):
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match="kernels=triton needs Triton, which is not installed here"):
        check_kernels(CPU)
    assert not kernels_work(CPU, 49, 32, False)


@pytest.mark.parametrize(
    ("dtype", "inverse", "m", "d", "message"),
    [
        (torch.float64, "newton", 49, 32, "computes in float32, and the input is float64"),
        (torch.float32, "svd", 49, 32, "has the Newton-Raphson inverse alone, and inverse=svd"),
        (torch.float32, "newton", 100, 32, "takes at most 64 landmarks, and there are 100"),
        (torch.float32, "newton", 49, 65, "takes heads of at most 64 channels, and they have 65"),
    ],
    ids=str,
)
def test_what_they_are_not_written_for_is_refused(dtype, inverse, m, d, message):
    with pytest.raises(SettingError, match=message):
        check_sizes(dtype, inverse, m, d)
