import pytest
import timm
import torch
from torch import nn

from soft.models.inference import optimise_for_inference
from tests.golden import relative_error


def _trained(dtype):
    torch.manual_seed(0)
    model = timm.create_model("soft_pico", num_classes=10, dtype=dtype).train()
    for _ in range(3):  # statistics that are not the initial ones
        model(2 * torch.randn(8, 3, 32, 32, dtype=dtype) + 1)
    return model


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 5e-6)])
def test_logits_stay(dtype, tolerance):
    model = _trained(dtype)
    fast = optimise_for_inference(model)
    images = torch.randn(4, 3, 32, 32, dtype=dtype)
    with torch.no_grad():
        assert relative_error(fast(images), model.eval()(images)) < tolerance
        assert relative_error(fast(images[:, :, :28, :28]), model(images[:, :, :28, :28])) < tolerance
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


def test_original_stays():
    model = _trained(torch.float32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimise_for_inference(model)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
