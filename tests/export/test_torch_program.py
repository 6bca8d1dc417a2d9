"""The model as a program of PyTorch alone, and as a folder of timm's."""

import json
import os
from pathlib import Path

import pytest
import timm
import torch
from torch.export.passes import move_to_device_pass

from soft.errors import SettingError
from soft.export.card_usage import describe_usage
from soft.export.output_check import check_difference
from soft.export.timm_folder import check_account, export_timm, push
from soft.export.torch_program import export_program, program_metadata
from tests.export.small_model import FACTS, small_model
from tests.marks import slow


@pytest.mark.slow
@pytest.mark.parametrize("inverse", ["newton", slow("cholesky")])
def test_a_program_has_the_logits_and_the_metadata(tmp_path, inverse):
    model = small_model(inverse=inverse)
    assert export_program(model, tmp_path / "model.pt2", (32, 48), FACTS.to_dict()) < 1e-5
    assert program_metadata(tmp_path / "model.pt2") == FACTS.to_dict()
    images = torch.randn(4, 3, 32, 48)
    with torch.no_grad():
        program = torch.export.load(tmp_path / "model.pt2").module()
        torch.testing.assert_close(program(images), model(images), rtol=1e-4, atol=1e-5)


def test_a_model_of_token_ids(tmp_path):
    options = {"img_size": (1, 16), "in_chans": 2, "vocabulary": 9, "num_classes": 5, "depth": 1}
    model = timm.create_model("soft_encoder", **options, global_pool="ask", num_landmarks=4).eval()
    assert export_program(model, tmp_path / "model.pt2", (1, 16), {}, integers=True) < 1e-5
    assert export_timm(model, tmp_path, (1, 16), integers=True) == 0
    program, tokens = torch.export.load(tmp_path / "model.pt2").module(), torch.randint(9, (4, 2, 1, 16))
    with torch.no_grad():
        torch.testing.assert_close(program(tokens), model(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("inverse", ["newton", "cholesky"])
def test_a_program_moves_to_another_device(tmp_path, inverse):
    """It has constants and autocast regions of the CPU, which `.to` leaves there and a pass of PyTorch moves."""
    model = small_model(inverse=inverse)
    export_program(model, tmp_path / "model.pt2", (32, 48))
    code = describe_usage(model, "soft_pico", ["model.pt2"], "FOLDER", integers=False)
    (words,) = (line for line in code.splitlines() if "move_to_device_pass(" in line)
    names = {"program": torch.export.load(tmp_path / "model.pt2"), "move_to_device_pass": move_to_device_pass}
    exec(words.removeprefix("# ").replace("cuda", "meta"), names)
    logits = names["model"](torch.empty(5, 3, 32, 48, device="meta"))
    assert (logits.device.type, logits.shape) == ("meta", (5, 3))


@pytest.mark.slow
def test_a_difference_is_refused_and_leaves_what_was_there(tmp_path, monkeypatch):
    for value in (2e-4, float("nan")):
        with pytest.raises(SettingError, match=r"model.pt2 was not written: its logits differ"):
            check_difference("model.pt2", value)
    (tmp_path / "model.pt2").write_text("the last export")
    monkeypatch.setattr("soft.export.torch_program.largest_difference", lambda *_, **__: 2e-4)
    with pytest.raises(SettingError, match="was not written"):
        export_program(small_model(), tmp_path / "model.pt2", (32, 48))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("model.pt2", "the last export")]


@pytest.mark.parametrize("options", [{}, {"attention": "soft_norm", "sampling": "avgpool"}], ids=str)
def test_timm_loads_the_folder(tmp_path, options):
    model, folder = small_model(**options), tmp_path / "odd #name?"
    assert export_timm(model, folder, (32, 48)) == 0
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert os.stat(folder / "model.safetensors").st_mode == os.stat(folder / "config.json").st_mode
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    assert tuple(again.pretrained_cfg["label_names"]) == FACTS.class_names
    config = timm.data.resolve_model_data_config(again)
    assert (config["input_size"], config["mean"], config["crop_pct"]) == ((3, 32, 48), list(FACTS.mean), 0.8)
    assert json.loads((folder / "config.json").read_text())["label_names"] == list(FACTS.class_names)


def test_an_upload_needs_an_account(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(SettingError, match="push_to_hub needs an account"):
        check_account()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "a key")
    check_account()


def test_an_upload_is_timm_s(monkeypatch):
    """The Hub is replaced: what would be uploaded is a folder that timm loads, with our card."""
    uploaded = {}

    class Hub:
        def __init__(self, **_):
            pass

        def create_repo(self, name, **_):
            return type("Repository", (), {"repo_id": name})()

        def file_exists(self, **_):
            return False

        def upload_folder(self, repo_id, folder_path, **_):
            model = timm.create_model(f"local-dir:{folder_path}", pretrained=True)
            uploaded[repo_id] = (model, (Path(folder_path) / "README.md").read_text())
            return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr("timm.models._hub.HfApi", Hub)
    model = small_model()
    assert push(model, "me/digits", {"description": "A card."}) == "https://huggingface.co/me/digits/commit/1"
    again, card = uploaded["me/digits"]
    assert torch.equal(again.head.weight, model.head.weight)
    assert "A card." in card
