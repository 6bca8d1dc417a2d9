import pytest
import torch

from soft.attention import create_attention, reference
from soft.attention.none import NoAttention
from soft.errors import SettingError
from tests.golden import relative_error


def test_it_is_soft_attention_without_the_global_term():
    """Landmarks that are far from all queries make P zero."""
    torch.manual_seed(0)
    soft = create_attention("soft", 32, 2, (6, 7), 5, num_landmarks=4).double()
    torch.nn.init.constant_(soft.landmarks.norm.bias, 100.0)
    none = create_attention("none", 32, 2, (6, 7), 5).double()
    none.load_state_dict({key: value for key, value in soft.state_dict().items() if key in none.state_dict()})
    x = torch.randn(2, 42, 32, dtype=torch.float64)
    found = []
    for attention in (none, soft):
        attention(x, (6, 7)).square().sum().backward()
        found.append([attention(x, (6, 7)), *(attention.get_parameter(n).grad for n, _ in none.named_parameters())])
    assert max(relative_error(ours, theirs) for ours, theirs in zip(*found, strict=True)) < 1e-12


def test_attend_is_the_reference_and_sees_no_further_than_its_filter():
    attention = NoAttention(16, 2, (9, 9), 3).double()
    v = torch.randn(1, 2, 81, 8, dtype=torch.float64, requires_grad=True)
    out = attention.attend(v, (9, 9))
    assert relative_error(out, reference.convolve(v, attention.local.weight, (9, 9))) < 1e-12
    out[0, :, 40].sum().backward()  # the token in the middle
    seen = v.grad[0].abs().sum((0, 2)).view(9, 9).nonzero().tolist()
    assert seen == [[row, column] for row in (3, 4, 5) for column in (3, 4, 5)]


def test_a_width_that_does_not_divide_over_the_heads_is_an_error():
    with pytest.raises(SettingError, match="width of 16 does not divide over num_heads=3"):
        NoAttention(16, 3, (8, 8), 3)
