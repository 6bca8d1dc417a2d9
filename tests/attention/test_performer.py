import math

import pytest
import torch
from performer_pytorch import SelfAttention
from performer_pytorch.performer_pytorch import softmax_kernel

from soft.attention.performer import PerformerAttention, orthogonal_directions
from soft.attention.softmax import SoftmaxAttention
from soft.errors import SettingError
from tests.attention.packages import PRECISE, errors
from tests.golden import relative_error

NAMES = {
    f"to_{name}.{kind}": (f"qkv.{kind}", third) for third, name in enumerate("qkv") for kind in ("weight", "bias")
} | {f"to_out.{kind}": (f"proj.{kind}", -1) for kind in ("weight", "bias")}


@pytest.mark.parametrize("dtype", list(PRECISE), ids=str)
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("grid", "features"), [((8, 8), None), ((14, 14), 32), ((5, 3), 200)], ids=str)
def test_equals_the_package(grid, features, scale, dtype):
    torch.manual_seed(0)
    ours = PerformerAttention(64, 2, grid, 3, features).to(dtype)
    theirs = SelfAttention(64, heads=2, dim_head=32, nb_features=features, qkv_bias=True).to(dtype)
    theirs.fast_attention.projection_matrix.copy_(ours.directions)
    x = scale * torch.randn(3, grid[0] * grid[1], 64, dtype=dtype)
    found = errors(ours, theirs, NAMES, x, grid)
    assert max(found.values()) < PRECISE[dtype], found


@pytest.mark.parametrize("is_query", [True, False])
def test_features_are_the_packages_up_to_their_constant(is_query):
    attention, x = PerformerAttention(64, 2, (4, 4), 3).double(), torch.randn(2, 2, 16, 32, dtype=torch.float64)
    expected = softmax_kernel(x, projection_matrix=attention.directions, is_query=is_query)
    found = attention.features(x, [-1] if is_query else [-2, -1]) * attention.directions.shape[0] ** -0.5
    torch.testing.assert_close(found, expected)


def test_more_features_come_closer_to_the_softmax():
    torch.manual_seed(0)
    softmax, x = SoftmaxAttention(64, 2, (8, 8), 3).double(), torch.randn(4, 64, 64).double()
    expected = softmax.attention_map(x, (8, 8), range(64))
    found = []
    for features in (32, 512, 8192):
        performer = PerformerAttention(64, 2, (8, 8), 3, features).double()
        performer.load_state_dict(softmax.state_dict() | {"directions": performer.directions})
        found.append(relative_error(performer.attention_map(x, (8, 8), range(64)), expected))
    assert found[0] > 2 * found[1] > 4 * found[2]
    assert found[2] < 0.15


def test_directions_are_orthogonal_in_blocks_and_as_long_as_gaussian_vectors():
    directions = orthogonal_directions(320, 32, torch.Generator().manual_seed(0))
    lengths = directions.norm(dim=1)
    for block in (directions / lengths[:, None]).split(32):
        torch.testing.assert_close(block @ block.t(), torch.eye(32, dtype=torch.float64))
    assert lengths.mean().item() == pytest.approx(32**0.5, rel=0.03)
    assert lengths.std().item() == pytest.approx(0.5**0.5, rel=0.2)


def test_the_default_is_d_log_d_features():
    assert PerformerAttention(64, 2, (4, 4), 3).directions.shape == (int(32 * math.log(32)), 32)
    assert PerformerAttention(2, 2, (4, 4), 3).directions.shape == (1, 1)


def test_directions_follow_the_seed_differ_between_layers_and_stay_in_the_checkpoint():
    torch.manual_seed(3)
    first, second = (PerformerAttention(64, 2, (4, 4), 3) for _ in range(2))
    assert not torch.equal(first.directions, second.directions)
    torch.manual_seed(3)
    again = PerformerAttention(64, 2, (4, 4), 3)
    assert torch.equal(first.directions, again.directions)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.directions, second.directions)
    again.redraw()
    assert not torch.equal(first.directions, again.directions)


def test_no_features_is_an_error():
    with pytest.raises(SettingError, match="num_features=0 has to be a whole number of at least 1"):
        PerformerAttention(64, 2, (4, 4), 3, num_features=0)
