import pytest
import torch
import torch.nn.functional as F

from soft.attention import landmarks
from soft.attention.landmarks import LandmarkSampler
from soft.attention.windows import sample_windows


@pytest.mark.parametrize("layout", ["tokens first", "heads first"])
@pytest.mark.parametrize(
    ("grid", "kernel", "stride"),
    [((6, 8), (3, 2), (3, 2)), ((7, 9), (4, 5), (3, 2)), ((8, 8), (5, 5), (1, 3)), ((9, 7), (2, 3), (2, 3))],
    ids=["tiles", "overlapping", "overlapping several times", "not reaching the edge"],
)
def test_windows_are_a_strided_convolution(grid, kernel, stride, layout):
    torch.manual_seed(0)
    b, h, d = 2, 3, 4
    q = torch.randn(b, h, grid[0] * grid[1], d, dtype=torch.float64)
    if layout == "tokens first":
        q = q.transpose(1, 2).contiguous().transpose(1, 2)
    q.requires_grad_()
    weight = torch.randn(d, d, *kernel, dtype=torch.float64, requires_grad=True)
    filters = weight.permute(0, 2, 3, 1).reshape(d, -1)

    image = q.reshape(b * h, *grid, d).permute(0, 3, 1, 2)
    expected = F.conv2d(image, weight, stride=stride).flatten(2).transpose(1, 2).reshape(b, h, -1, d)
    cotangent, other = torch.randn_like(expected), torch.randn_like(q)
    expected_grads = torch.autograd.grad([expected, q * other], [q, weight], [cotangent, torch.ones_like(q)])

    sampled, same = sample_windows(q, filters, grid, kernel, stride)
    assert torch.equal(same, q)
    torch.testing.assert_close(sampled, expected)
    grads = torch.autograd.grad([sampled, same * other], [q, weight], [cotangent, torch.ones_like(q)])
    torch.testing.assert_close(grads, expected_grads)


def test_windows_are_not_kept_for_the_backward_pass():
    q, filters = torch.randn(1, 2, 64, 3, requires_grad=True), torch.randn(3, 48)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.data_ptr()) or t, lambda t: t):
        sample_windows(q, filters, (8, 8), (4, 4), (4, 4))
    assert sizes == [q.data_ptr(), filters.data_ptr()]


@pytest.mark.parametrize(("grid", "m"), [((14, 14), 49), ((14, 14), 25), ((10, 13), 9)])
def test_both_forms_of_the_sampler_agree(grid, m, monkeypatch):
    """Where windows overlap too often for a product over them, and where they do not."""
    sampler = LandmarkSampler(4, grid, m).double()
    q = torch.randn(2, 3, grid[0] * grid[1], 4, dtype=torch.float64)
    first = sampler(q, grid, 0.5)
    monkeypatch.setattr(landmarks, "is_eager", lambda: False)
    torch.testing.assert_close(first, sampler(q, grid, 0.5))
