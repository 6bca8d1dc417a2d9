"""The model in ONNX Runtime."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from soft.errors import SettingError
from soft.export.onnx_program import export_onnx
from soft.models.inference import optimise_for_inference
from tests.export.small_model import FACTS, small_model
from tests.golden import relative_error


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_any_batch_has_the_logits_of_pytorch(tmp_path, capfd):
    model = small_model()
    path = tmp_path / "model.onnx"
    assert export_onnx(optimise_for_inference(model), path, (32, 48), FACTS.to_dict()) < 1e-5
    run = session(path)
    for batch in (1, 5):
        images = torch.randn(batch, 3, 32, 48)
        (logits,) = run.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            assert relative_error(torch.from_numpy(logits), model(images)) < 1e-5
    kept = {key: json.loads(value) for key, value in run.get_modelmeta().custom_metadata_map.items()}
    assert FACTS.to_dict().items() <= kept.items()
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert not capfd.readouterr().out


@pytest.mark.slow
def test_a_fixed_batch_in_float16(tmp_path):
    model = small_model()
    difference = export_onnx(model, tmp_path / "half.onnx", (32, 48), half_batch=2)
    assert 1e-6 < difference < 5e-3
    run = session(tmp_path / "half.onnx")
    (given,) = run.get_inputs()
    assert (given.shape, given.type) == ([2, 3, 32, 48], "tensor(float16)")
    images = torch.randn(2, 3, 32, 48)
    (logits,) = run.run(None, {"images": images.numpy().astype(np.float16)})
    with torch.no_grad():
        assert relative_error(torch.from_numpy(logits).float(), model(images)) < 5e-3


@pytest.mark.parametrize("inverse", ["cholesky", "svd"])
def test_an_inverse_without_an_operator_is_said(inverse, tmp_path):
    with pytest.raises(SettingError) as error:
        export_onnx(small_model(inverse=inverse), tmp_path / "model.onnx", (32, 48))
    assert f"inverse={inverse}" in str(error.value)
    assert "format=pt2" in str(error.value)
    assert not list(tmp_path.iterdir())
