"""The baseline of the benchmarks is the same function as the library's model, gradients included."""

import pytest
import timm
import torch

from soft.attention import create_attention
from soft.benchmark.cores import reference_core
from soft.benchmark.model_speed import build_pair
from tests.golden import TOLERANCE, relative_error

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["soft", "soft_norm"])
def test_core(name):
    torch.manual_seed(0)
    attention = create_attention(name, 64, 2, (12, 9), 5, num_landmarks=9).double()
    reference = reference_core(attention, (12, 9)).double()
    q, v = (torch.randn(2, 2, 108, 32, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours, theirs = attention.attend(q, v, (12, 9)), reference(q, v, (12, 9))
    assert relative_error(ours, theirs) < TOLERANCE[torch.float64]
    weight = torch.randn_like(ours)
    pairs = [
        (q, q),
        (v, v),
        (attention.landmarks.conv.weight, reference.Qlandmark_op.weight),
        (attention.landmarks.norm.weight, reference.Qnorm_act[0].weight),
        (attention.local.weight, reference.conv.weight),
    ]
    gradients = (
        torch.autograd.grad(out, parameters, weight)
        for out, parameters in zip((ours, theirs), zip(*pairs, strict=True), strict=True)
    )
    for our_gradient, their_gradient in zip(*gradients, strict=True):
        assert relative_error(our_gradient, their_gradient) < TOLERANCE[torch.float64]


def test_other_options_have_no_reference():
    for option in ({"sampling": "avgpool"}, {"inverse": "svd"}, {"global_scale": 16.0}):
        attention = create_attention("soft", 64, 2, (8, 8), 3, num_landmarks=4, **option)
        assert reference_core(attention, (8, 8)) is None


@pytest.mark.parametrize(("name", "sizes"), [("soft_pico", (32, 40)), ("soft_norm_tiny", (112,))])
def test_model(name, sizes):
    ours, reference = (model.double() for model in build_pair(name, sizes[0], 0.0, CPU))
    for size in sizes:
        images = torch.randn(2, 3, size, size, dtype=torch.float64)
        assert relative_error(ours(images), reference(images)) < TOLERANCE[torch.float64]
    ours, reference = ours.eval(), reference.eval()
    assert relative_error(ours(images), reference(images)) < TOLERANCE[torch.float64]


def test_rates_of_dropout():
    name = "soft_pico"
    ours, reference = build_pair(name, 32, 0.3, CPU)
    theirs = [block.att.drop1.p for i in (1, 2, 3) for block in getattr(reference, f"block{i}")]
    theirs += [block.drop_path for block in reference.block4]
    assert theirs == pytest.approx([0, 0.075, 0.15, 0.225, 0.3])
    assert [block.drop.p for stage in ours.stages[:3] for block in stage.blocks] == pytest.approx(theirs[:4])
    assert timm.create_model(name, drop_path_rate=0.3).stages[3].blocks[0].drop_path1.drop_prob == pytest.approx(0.3)
