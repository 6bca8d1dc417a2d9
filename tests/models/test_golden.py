"""Whole models against the authors' released code."""

import pytest
import timm
import torch

import soft.models
from soft.models.checkpoints import load_weights, to_official_keys
from tests.golden import MODEL_CASES, TOLERANCE, golden, image, official_weights, relative_error

CASES = pytest.mark.parametrize("case", list(MODEL_CASES))


def run(case: str, dtype: torch.dtype) -> tuple[soft.models.SoftTransformer, torch.Tensor]:
    """Model with the case's weights, and its logits."""
    info = MODEL_CASES[case]
    model = timm.create_model(info["model"]).eval().to(dtype)
    load_weights(model, official_weights(info["model"]))
    images = image(info["image_seed"], (info["batch"], 3, info["resolution"], info["resolution"]))
    return model, model(images.to(dtype))


@CASES
def test_float32_logits(case):
    assert relative_error(run(case, torch.float32)[1], golden(f"{case}.logits")) < TOLERANCE[torch.float32]


@CASES
def test_float64_logits_and_every_gradient_norm(case):
    model, logits = run(case, torch.float64)
    assert relative_error(logits, golden(f"{case}.logits")) < TOLERANCE[torch.float64]
    (logits * image(MODEL_CASES[case]["image_seed"] + 1, tuple(logits.shape))).sum().backward()
    gradients = to_official_keys({name: parameter.grad for name, parameter in model.named_parameters()})
    norms = {key: gradient.norm().item() for key, gradient in gradients.items()}
    assert norms == pytest.approx(MODEL_CASES[case]["grad_norm"], rel=1e-9)
