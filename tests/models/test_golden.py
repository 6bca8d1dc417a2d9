"""Whole models against the authors' released code."""

import pytest
import timm
import torch

import soft.models
from soft.attention.reference import gaussian_kernel
from soft.benchmark.reference_model import ReferenceTransformer
from soft.models.checkpoints import load_weights
from soft.models.key_names import to_official_keys
from tests.golden import MODEL_CASES, TOLERANCE, golden, image, official_weights, relative_error
from tests.marks import slow

SLOW = [slow(f"soft_{size}") for size in ("small_39m", "medium", "large", "huge")] + [slow("soft_norm_huge")]
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


@pytest.mark.parametrize("name", ["soft_tiny", "soft_norm_tiny", *SLOW])
def test_every_released_layout_follows_the_formulas_on_an_input_that_is_not_square(name, tmp_path):
    """In float64, from a file by way of timm. The deep models amplify rounding: 1e-8 where one block gives 1e-14."""
    weights = official_weights.__wrapped__(name)
    torch.save({"state_dict_ema": weights}, tmp_path / "w.pth")
    model = timm.create_model(name, checkpoint_path=str(tmp_path / "w.pth"), dtype=torch.float64).eval()
    images = image(3, (1, 3, 128, 192))
    with torch.inference_mode():
        normalised = name.startswith("soft_norm_")
        reference = ReferenceTransformer(weights, normalised=normalised, gaussian=gaussian_kernel).eval()
        assert relative_error(model(images), reference(images)) < 1e-8
