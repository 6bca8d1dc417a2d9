import pytest
import timm
import torch

from soft.errors import SettingError
from soft.models.key_names import to_official_keys, to_soft_keys
from tests.golden import OFFICIAL_SHAPES
from tests.models.shells import shell

# Our name for each released layout; the released "soft_small" is the 39M one.
RELEASED = {name: name.replace("soft_small", "soft_small_39m") for name in OFFICIAL_SHAPES}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def counted(shapes) -> dict[str, torch.Tensor]:
    """A number of its own for every key, in the right shape without the memory."""
    return {key: torch.tensor(float(i)).expand(shape) for i, (key, shape) in enumerate(shapes.items())}


@pytest.mark.parametrize("released", list(OFFICIAL_SHAPES))
def test_released_keys_become_the_models_and_come_back_bit_for_bit(released):
    official = counted(OFFICIAL_SHAPES[released])
    for name in {RELEASED[released], RELEASED[released].replace("soft_", "soft_norm_")} & set(timm.list_models()):
        wanted = {key: value.shape for key, value in shell(name).state_dict().items()}
        assert {key: value.shape for key, value in to_soft_keys(official).items()} == wanted
    assert equal(to_official_keys(to_soft_keys(official)), official)


@pytest.mark.parametrize("name", ["soft_pico", "soft_norm_tiny"])
def test_our_weights_come_back_bit_for_bit_from_the_authors_keys(name):
    ours = timm.create_model(name).state_dict()
    assert equal(to_soft_keys(to_official_keys(ours)), ours)
    assert equal(to_soft_keys(ours), ours)


def test_q_k_and_v_of_the_last_stage_are_kept_apart_as_the_authors_do(weights):
    official = to_official_keys(weights)
    qkv = weights["stages.3.blocks.0.attn.qkv.weight"]
    assert torch.equal(official["block4.0.attn.q.weight"], qkv[:192])
    assert torch.equal(official["block4.0.attn.kv.weight"], qkv[192:])


def test_keys_that_the_authors_do_not_have_are_an_error(weights):
    weights |= {f"stages.0.blocks.0.attn.key{i}.weight": torch.zeros(1) for i in range(5)}
    with pytest.raises(SettingError, match=r"no name for stages\.0\.blocks\.0\.attn\.key0\.weight, .* and 2 more"):
        to_official_keys(weights)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "model.", "ema.module."])
def test_a_state_dict_at_hand_may_be_wrapped_too(prefix, weights):
    assert equal(to_soft_keys({prefix + key: value for key, value in to_official_keys(weights).items()}), weights)
