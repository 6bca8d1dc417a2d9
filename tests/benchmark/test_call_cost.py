import pytest
import torch
import torch.nn.functional as F

from soft.benchmark.call_cost import count_flops, peak_allocation, total_bytes

CPU = torch.device("cpu")


def test_peak_of_a_chain():
    x = torch.randn(1000, 1000)
    assert (
        8_000_000 <= peak_allocation(lambda: x * 2 + 1, CPU) < 8_000_100
    )  # the product is alive while the sum is made
    assert 4_000_000 <= peak_allocation(lambda: (x * 2).add_(1), CPU) < 4_000_100


def test_peak_holds_what_backward_needs_and_repeats_exactly():
    x = torch.randn(1000, 1000, requires_grad=True)
    peaks = {peak_allocation(lambda: torch.autograd.grad(x.exp().exp().sum(), x), CPU) for _ in range(3)}
    assert len(peaks) == 1
    assert 12_000_000 <= peaks.pop() <= 16_100_000


def test_size_of():
    assert total_bytes([torch.zeros(3, 5), torch.zeros(2, dtype=torch.float64)]) == 76


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda: torch.randn(3, 4) @ torch.randn(4, 5), 2 * 3 * 4 * 5),
        (lambda: torch.zeros(2, 3, 5).baddbmm_(torch.randn(2, 3, 4), torch.randn(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
        (lambda: torch.zeros(3, 5).addmm_(torch.randn(3, 4), torch.randn(4, 5)), 2 * 3 * 4 * 5),
        (lambda: F.scaled_dot_product_attention(*torch.randn(3, 1, 2, 64, 8)), 2 * 2 * 2 * 64 * 64 * 8),
    ],
    ids=["product", "batched, in place", "in place", "softmax attention"],
)
def test_flops(call, flops):
    assert count_flops(call) == flops


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (8, 1), (1, 2)])
def test_flops_of_convolutions(groups, stride):
    images, weight = torch.randn(2, 8, 16, 16, requires_grad=True), torch.randn(8, 8 // groups, 3, 3)
    weight.requires_grad_()
    forward = 2 * 2 * 8 * (16 // stride) ** 2 * (8 // groups) * 9

    def train():
        F.conv2d(images, weight, stride=stride, padding=1, groups=groups).sum().backward()

    assert count_flops(train) == 3 * forward
