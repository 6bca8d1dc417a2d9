import pytest
import torch

from soft.attention import ATTENTIONS, UnknownOptionError, create_attention
from soft.errors import SettingError


@pytest.mark.parametrize("name", list(ATTENTIONS))
def test_every_attention_fits_the_socket(name):
    """forward(x (B, N, C), grid (H, W)) -> (B, N, C), with a gradient for every parameter."""
    attention = create_attention(
        name, 32, 2, (8, 6), 3, **({"num_landmarks": 9} if name.startswith("soft") and name != "softmax" else {})
    )
    x = torch.randn(2, 48, 32, requires_grad=True)
    out = attention(x, (8, 6))
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in (x, *attention.parameters()))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SettingError, match=r"attention='sotf' is not known; it is one of soft, soft_norm"):
        create_attention("sotf", 32, 2, (8, 8), 3)


def test_an_unknown_option_lists_the_known_ones_and_is_a_type_error_too():
    with pytest.raises(UnknownOptionError, match="'landmarks'; its options are num_landmarks, newton_iters") as error:
        create_attention("soft", 32, 2, (8, 8), 3, landmarks=9)
    assert isinstance(error.value, SettingError)
    assert isinstance(error.value, TypeError)
