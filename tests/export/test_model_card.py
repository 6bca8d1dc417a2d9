"""What a model card says, with and without a run around the checkpoint."""

import json

import pytest
import timm

from soft.export.model_card import NOT_RECORDED, build_card, card_text
from tests.export.small_model import FACTS, small_model

RESULT = {
    "top1": 97.5,
    "monitor": "val/loss",
    "best": 0.125,
    "last": {"val/top1": 97.0, "val/top5": 99.5, "val/loss": 0.25},
    "facts": {
        "macs": 20713606,
        "train_images": 1437,
        "val_images": 360,
        "num_classes": 10,
        "epochs": 3,
        "steps": 66,
        "global_batch": 64,
        "devices": 2,
        "precision": "32-true",
    },
    "environment": {"device": "A CPU", "torch": "2.14.1", "lightning": "2.6.6", "timm": "1.0.31", "commit": "abc1234"},
}
RECIPE = {
    "model": {"name": "soft_pico", "attention": {"attention": "soft", "num_landmarks": 4}, "recipe": {"lr": 1}},
    "data": {"root": "/home/me/images"},
    "optimizer": {"opt": "adamw", "lr": 0.016},
    "augment": {"_target_": "x", "mixup": 0.0, "label_smoothing": 0.1},
    "seed": 3,
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    return tmp_path / "checkpoints" / "best.ckpt"


def test_a_card_from_a_run(run):
    files = ["model.safetensors", "model.pt2", "model.onnx"]
    command = "python src/train.py seed=3"
    text = card_text(build_card(small_model(), run, FACTS, RECIPE, "ema", command, files), "soft_pico")
    for part in (
        "license: mit",
        "# Model card for soft_pico",
        "linear in the number of tokens, trained on digits",
        "0.0207 G per image",
        "arxiv.org/abs/2110.11945",
        'timm.create_model("local-dir:FOLDER", pretrained=True)',
        'torch.export.load("model.pt2"',
        'onnxruntime.InferenceSession("model.onnx")',
        "best val/loss: 0.125",
        "val/top1 at the end: 97.00 %",
        "val/top5 at the end: 99.50 %",
        "ema weights of best.ckpt",
        "model: name soft_pico, attention soft, num_landmarks 4",
        "optimizer: opt adamw, lr 0.016",
        "augment: mixup 0.0, label_smoothing 0.1",
        "seed: 3",
        "1,437 training and 360 validation images of 10 classes",
        "3 epochs, 66 steps of 64 images",
        "2 x A CPU, 32-true",
        "torch 2.14.1, lightning 2.6.6, timm 1.0.31",
        "commit: abc1234",
        "command: `python src/train.py seed=3`",
        "mean [0.4, 0.5, 0.6] and standard deviation [0.2, 0.3, 0.25]",
        "classes: zero, one, two",
        "one of 3 classes",
        "not for decisions",
        "@inproceedings{SOFT",
    ):
        assert part in text, part
    assert "/home/me" not in text
    assert NOT_RECORDED not in text
    for code in text.split("```python")[1:]:
        compile(code.partition("```")[0], "card", "exec")


@pytest.mark.parametrize("validated", [True, False])
def test_a_card_of_raw_weights_has_not_the_figures_of_their_average(run, validated):
    raw = {"val_raw/top1": 31.0} if validated else {}
    (run.parents[1] / "result.json").write_text(json.dumps({**RESULT, "last": {**RESULT["last"], **raw}}))
    recipe = {**RECIPE, "ema": {"decay": 0.99}}
    text = card_text(build_card(small_model(), run, FACTS, recipe, "raw", None, []), "soft_pico")
    assert "val/top1" not in text
    assert "0.125" not in text
    assert ("val_raw/top1 at the end: 31.00 %" in text) == validated
    assert ("raw weights were not validated" in text) != validated


def test_what_is_not_known_is_said(tmp_path):
    model = small_model(attention="softmax")
    text = card_text(build_card(model, tmp_path / "w.pth", None, None, "raw", None, ["model.pt2"]), "soft_pico")
    assert "soft_pico with softmax attention in place of SOFT's own" in text
    assert "linear in" not in text
    for name in ("Metrics", "Recipe", "software", "commit", "command", "preprocessing"):
        assert f"- {name}: {NOT_RECORDED}" in text
    assert "local-dir" not in text


def test_a_model_of_token_ids_takes_no_images(tmp_path):
    options = {"img_size": (1, 16), "in_chans": 2, "vocabulary": 9, "num_classes": 5, "depth": 1}
    model = timm.create_model("soft_encoder", **options, global_pool="ask", num_landmarks=4)
    files = ["model.pt2", "model.safetensors"]
    card = build_card(model, tmp_path / "w.pth", None, None, "raw", None, files, integers=True)
    text = card_text(card, "soft_encoder")
    for part in (
        *("classification of token ids", "tokens: token ids (B, 2, H, W)", "Programs take token ids (B, 2, H, W)"),
        *("token ids from 0 to 8", "Every example is given one of 5 classes"),
    ):
        assert part in text, part
    assert "create_transform" not in text
    assert "image-classification" not in card["tags"]
