"""The multiply-accumulates of a model are one number."""

import pytest
import timm
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from soft.models.flops import count_macs

IMAGE = (3, 32, 32)


def macs(seed: int = 0, **options) -> int:
    torch.manual_seed(seed)
    return count_macs(timm.create_model("soft_pico", num_classes=10, img_size=32, num_landmarks=9, **options), IMAGE)


@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
def test_all_newton_steps_count_whatever_the_seed(attention):
    assert macs(0, attention=attention) == macs(1, attention=attention) == macs(2, attention=attention)
    steps = [macs(attention=attention, newton_iters=iters) for iters in (5, 10, 20)]
    one, m = (steps[1] - steps[0]) // 5, 9
    # Two products of m x m matrices per step, in each head of each of the four blocks.
    assert one == 2 * m**3 * (1 + 2 + 2 * 4)
    assert steps[2] - steps[1] == 10 * one


def test_softmax_counts_its_products():
    model = timm.create_model("soft_pico", num_classes=10, img_size=32, attention="softmax").eval()
    # PyTorch's counter knows the products of this kernel, and not those of the one that a CPU takes by itself.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *IMAGE))
    assert count_macs(model, IMAGE) == counter.get_total_flops() // 2


def test_the_model_stays_as_it_was():
    model = timm.create_model("soft_pico", num_classes=10, img_size=32).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, IMAGE)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_every_module_keeps_its_mode():
    model = timm.create_model("soft_pico").train()
    model.stem.eval()
    modes = [module.training for module in model.modules()]
    count_macs(model, (3, 32, 32))
    assert [module.training for module in model.modules()] == modes
