import pytest
import torch
import torch.nn.functional as F

from soft.attention.fast import windows
from soft.attention.fast.windows import sample_landmarks, sample_windows
from soft.attention.landmarks import SAMPLINGS, LandmarkSampler
from soft.errors import SettingError


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


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    ("grid", "m", "is_product"),
    [((14, 14), 49, True), ((14, 14), 25, False), ((10, 13), 9, True)],
    ids=["tiles", "overlapping several times", "overlapping"],
)
def test_landmarks_and_their_gradients_are_the_samplers(grid, m, is_product, sampling, monkeypatch):
    """The convolution is a product over windows unless they overlap so often that the product would be slower."""
    torch.manual_seed(0)
    calls = []
    monkeypatch.setattr(windows, "sample_windows", lambda *args: calls.append(args) or sample_windows(*args))
    sampler = LandmarkSampler(4, grid, m, sampling).double()
    q = torch.randn(2, 3, grid[0] * grid[1], 4, dtype=torch.float64, requires_grad=True)
    landmarks, same = sample_landmarks(sampler, q, grid, 0.5)
    assert len(calls) == (is_product and sampling == "conv")
    assert torch.equal(same, q)
    expected = sampler(q, grid, 0.5)
    torch.testing.assert_close(landmarks, expected)
    leaves, weight = [q, *sampler.parameters()], torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(out, leaves, weight) for out in (landmarks, expected)))


def test_a_dynamic_sampler_averages_queries_first():
    torch.manual_seed(0)
    sampler = LandmarkSampler(4, (8, 8), 16).double()
    sampler.dynamic = True
    q = torch.randn(2, 3, 190, 4, dtype=torch.float64, requires_grad=True)
    landmarks, same = sample_landmarks(sampler, q, (19, 10), 0.5)
    assert landmarks.shape == (2, 3, 16, 4)
    assert torch.equal(same, q)
    torch.testing.assert_close(landmarks, sampler(q, (19, 10), 0.5))


def test_a_grid_below_the_window_is_an_error_that_names_img_size():
    with pytest.raises(SettingError, match=r"3x8 tokens is smaller than the landmark window of 4x4.*img_size"):
        sample_landmarks(LandmarkSampler(8, (8, 8), 4), torch.randn(1, 1, 24, 8), (3, 8), 1.0)
