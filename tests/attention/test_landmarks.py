import math

import pytest
import torch
import torch.nn.functional as F

from soft.attention import reference
from soft.attention.landmarks import SAMPLINGS, LandmarkSampler, landmark_side
from soft.errors import SettingError


def act(sampler: LandmarkSampler, sampled: torch.Tensor) -> torch.Tensor:
    return F.gelu(F.layer_norm(sampled, [sampled.shape[-1]], sampler.norm.weight, sampler.norm.bias))


@pytest.mark.parametrize(("grid", "stride"), [(56, 8), (28, 4), (14, 2)])
def test_windows_at_224_pixels_are_the_released_ones(grid, stride):
    sampler = LandmarkSampler(32, (grid, grid))
    assert sampler.stride == sampler.kernel == (stride, stride)
    assert sampler.conv.weight.shape == (32, 32, stride, stride)
    assert sampler.conv.bias is None


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("grid", "m"), [((14, 14), 49), ((14, 14), 25), ((10, 13), 9), ((7, 7), 49), ((5, 8), 1)])
def test_every_sampling_gives_m_landmarks_also_where_their_side_does_not_divide_the_grid(sampling, grid, m):
    sampler = LandmarkSampler(8, grid, m, sampling)
    assert sampler(torch.randn(2, 3, grid[0] * grid[1], 8), grid).shape == (2, 3, m, 8)


def test_windows_reach_the_far_edge():
    """Nine landmarks of a grid of 10x13 have strides of 3 and 4, and kernels of 4 and 5."""
    sampler = LandmarkSampler(4, (10, 13), 9, "avgpool")
    assert (sampler.stride, sampler.kernel) == ((3, 4), (4, 5))
    q = torch.randn(1, 1, 130, 4, requires_grad=True)
    sampler(q, (10, 13)).square().sum().backward()
    assert (q.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize(("grid", "m"), [((4, 4), 4), ((7, 10), 9)], ids=str)
def test_conv_is_the_reference_with_one_set_of_weights_over_every_head(grid, m):
    sampler = LandmarkSampler(4, grid, m)
    q = torch.randn(2, 3, grid[0] * grid[1], 4)
    sampled = reference.sample(q, grid, sampler.conv.weight, sampler.stride)
    expected = reference.activate(sampled, sampler.norm.weight, sampler.norm.bias)
    torch.testing.assert_close(sampler(q, grid), expected)
    for head in range(3):
        torch.testing.assert_close(sampler(q[:, head : head + 1], grid), expected[:, head : head + 1])


def test_avgpool_is_the_mean_of_the_windows():
    sampler = LandmarkSampler(3, (4, 6), 4, "avgpool")
    q = torch.randn(1, 2, 24, 3)
    means = q.reshape(1, 2, 2, 2, 2, 3, 3).mean(dim=(3, 5)).flatten(2, 3)
    torch.testing.assert_close(sampler(q, (4, 6)), act(sampler, means))


def test_first_is_the_first_tokens():
    sampler = LandmarkSampler(3, (4, 4), 4, "first")
    q = torch.randn(1, 2, 16, 3)
    torch.testing.assert_close(sampler(q, (4, 4)), act(sampler, q[:, :, :4]))


def test_random_draws_once_the_same_everywhere_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second = (LandmarkSampler(3, (8, 8), 9, "random") for _ in range(2))
    torch.testing.assert_close(torch.get_rng_state(), state)
    assert first.positions.tolist() == second.positions.tolist()
    assert len(set(first.positions.tolist())) == 9
    q = torch.randn(1, 2, 64, 3)
    torch.testing.assert_close(first(q, (8, 8)), act(first, q[:, :, first.positions]))
    # The positions stay whole numbers in bfloat16 too.
    assert first.bfloat16().positions.tolist() == second.positions.tolist()
    assert "positions" not in first.state_dict()


@pytest.mark.parametrize(("sampling", "m"), [("conv", 16), ("avgpool", 16), ("random", 4), ("first", 4)])
def test_another_grid_runs_unchanged(sampling, m):
    sampler = LandmarkSampler(8, (8, 8), 4, sampling)
    assert sampler(torch.randn(1, 1, 256, 8), (16, 16)).shape == (1, 1, m, 8)


@pytest.mark.parametrize(("sampling", "m"), [("conv", 16), ("avgpool", 9)])
@pytest.mark.parametrize("times", [(2, 2), (3, 1)], ids=str)
def test_a_dynamic_sampler_answers_to_an_enlarged_grid_as_to_its_own(sampling, m, times):
    sampler = LandmarkSampler(8, (8, 7), m, sampling)
    sampler.dynamic = True
    q = torch.randn(2, 3, 56, 8)
    larger = q.unflatten(2, (8, 7)).repeat_interleave(times[0], 2).repeat_interleave(times[1], 3).flatten(2, 3)
    expected = sampler(q, (8, 7))
    assert expected.shape[2] == m
    torch.testing.assert_close(sampler(larger, (8 * times[0], 7 * times[1])), expected)


@pytest.mark.parametrize("grid", [(1, 1), (3, 20), (9, 8), (50, 33)], ids=str)
def test_a_dynamic_sampler_gives_m_landmarks_of_any_grid(grid):
    sampler = LandmarkSampler(8, (8, 8), 4)
    sampler.dynamic = True
    q = torch.randn(1, 2, grid[0] * grid[1], 8, requires_grad=True)
    landmarks = sampler(q, grid)
    assert landmarks.shape == (1, 2, 4, 8)
    landmarks.square().sum().backward()
    assert (q.grad.abs().sum(-1) > 0).all()


def test_a_grid_below_the_window_is_an_error_that_names_img_size():
    sampler = LandmarkSampler(8, (8, 8), 4)
    with pytest.raises(SettingError, match=r"3x8 tokens is smaller than the landmark window of 4x4.*img_size"):
        sampler(torch.randn(1, 1, 24, 8), (3, 8))


@pytest.mark.parametrize(
    ("m", "message"),
    [
        (50, "num_landmarks=50 is not a square number; the nearest are 49 and 64"),
        (0, "num_landmarks=0 has to be a whole number of at least 1"),
        (-4, "num_landmarks=-4 has to be a whole number"),
        (True, "num_landmarks=True has to be a whole number"),
        (4.0, "num_landmarks=4.0 has to be a whole number"),
        ("49", "num_landmarks='49' has to be a whole number"),
        (100, r"num_landmarks=100 \(10x10\) is larger than a stage's grid of 9x12 tokens; use at most 81"),
    ],
)
def test_unfit_numbers_of_landmarks_are_errors(m, message):
    with pytest.raises(SettingError, match=message):
        landmark_side(m, (9, 12))


def test_landmark_side():
    assert [landmark_side(m, (9, 12)) for m in (1, 4, 81)] == [1, 2, math.isqrt(81)]


def test_an_unknown_sampling_lists_the_known_ones():
    with pytest.raises(SettingError, match=r"sampling='max' is not known; it is one of conv, avgpool, random, first\."):
        LandmarkSampler(8, (8, 8), 4, "max")


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_gain_is_the_initial_weight_of_the_layer_norm(sampling):
    torch.manual_seed(0)
    published = LandmarkSampler(8, (8, 8), 4, sampling)
    torch.manual_seed(0)
    smaller = LandmarkSampler(8, (8, 8), 4, sampling, gain=0.3)
    assert published.norm.weight.tolist() == [1.0] * 8
    torch.testing.assert_close(smaller.norm.weight, torch.full((8,), 0.3))
    others = [name for name, _ in published.named_parameters() if name != "norm.weight"]
    assert all(torch.equal(published.get_parameter(name), smaller.get_parameter(name)) for name in others)


@pytest.mark.parametrize("gain", [0, -1.0, math.inf, math.nan, True, "1"], ids=str)
def test_a_gain_that_is_no_number_above_0_is_an_error(gain):
    with pytest.raises(SettingError, match=r"landmark_gain=.* has to be a number above 0, or auto for 2/√d\."):
        LandmarkSampler(8, (8, 8), 4, gain=gain)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("grid", "m"), [((1, 16), 4), ((1, 50), 7), ((1, 3), 3), ((12, 1), 5), ((1, 1), 1)], ids=str)
def test_a_sequence_takes_any_number_of_landmarks(sampling, grid, m):
    sampler = LandmarkSampler(8, grid, m, sampling)
    assert sampler(torch.randn(2, 3, max(grid), 8), grid).shape == (2, 3, m, 8)


def test_windows_of_a_sequence_follow_each_other_to_its_end():
    """Five landmarks of 23 tokens stand every 4 tokens, and a window has 7 so that the last one reaches the end."""
    sampler = LandmarkSampler(4, (1, 23), 5, "avgpool")
    assert (sampler.stride, sampler.kernel) == ((1, 4), (1, 7))
    q = torch.randn(1, 1, 23, 4)
    means = torch.stack([q[:, :, 4 * i : 4 * i + 7].mean(2) for i in range(5)], 2)
    torch.testing.assert_close(sampler(q, (1, 23)), act(sampler, means))


@pytest.mark.parametrize(("m", "grid"), [(17, (1, 16)), (17, (16, 1))])
def test_more_landmarks_than_a_sequence_has_tokens_are_an_error(m, grid):
    with pytest.raises(SettingError, match=r"num_landmarks=17 is more than the 16 tokens .* use at most 16"):
        LandmarkSampler(8, grid, m)


@pytest.mark.parametrize("head_dim", [16, 32, 64, 128])
def test_the_gain_auto_puts_landmarks_at_a_distance_of_about_1(head_dim):
    """At this distance the Gaussian kernel has its largest gradient, for every width of a head."""
    torch.manual_seed(0)
    sampler = LandmarkSampler(head_dim, (8, 8), 16, gain="auto")
    assert sampler.norm.weight.tolist() == pytest.approx([2 / math.sqrt(head_dim)] * head_dim)
    lengths = sampler(torch.randn(16, 2, 64, head_dim), (8, 8)).norm(dim=-1)
    assert lengths.mean().item() == pytest.approx(1.1, abs=0.1)
