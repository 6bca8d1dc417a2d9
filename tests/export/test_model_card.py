"""What a model card says, with and without a run around the checkpoint."""

import json

import pytest
import timm
import torch

from soft.data.classes import imagenet_wnids
from soft.export.card_usage import files_of_earlier_exports
from soft.export.model_card import NOT_RECORDED, build_card, card_text
from soft.export.training_data import training_data
from soft.models.metadata import Metadata
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
        "The metrics of best.ckpt are not recorded",
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


ROWS = """epoch,step,lr,train/loss_epoch,val/top1,val/top5,val/loss,val_raw/top1
0,21,0.1,,,,,
0,21,,,88.0,96.0,0.5,77.0
0,21,,1.2,,,,
1,43,,,97.0,99.5,0.25,79.0
"""


def saved(run, name, step, validating=False):
    """Write a checkpoint that stands after so many steps; return its path."""
    path = run.with_name(name)
    torch.save({"position": {"global_step": step, "validating": validating}}, path)
    return path


@pytest.mark.parametrize(
    ("name", "step", "weights", "own"),
    [
        ("best.ckpt", 22, "ema", ["val/top1: 88.00 %", "val/top5: 96.00 %", "val/loss: 0.5"]),
        ("last.ckpt", 44, "ema", ["val/top1: 97.00 %", "val/top5: 99.50 %", "val/loss: 0.25"]),
        ("best.ckpt", 22, "raw", ["val_raw/top1: 77.00 %"]),
    ],
    ids=str,
)
def test_the_results_are_those_of_the_exported_weights(run, name, step, weights, own):
    (run.parents[1] / "metrics.csv").write_text(ROWS)
    recipe = {**RECIPE, "ema": {"decay": 0.99}}
    card = build_card(small_model(), saved(run, name, step), FACTS, recipe, weights, None, [])
    results = card["usage"].partition("## Results\n")[2].partition("\n\n## ")[0]
    assert results.splitlines()[1:] == [f"- {line}" for line in own]
    assert f"weights of {name} on the validation images of digits" in results


@pytest.mark.parametrize(("step", "validating"), [(30, False), (44, True)])
def test_weights_between_two_validations_have_no_results_of_their_own(run, step, validating):
    (run.parents[1] / "metrics.csv").write_text(ROWS)
    card = build_card(small_model(), saved(run, "last.ckpt", step, validating), FACTS, RECIPE, "ema", None, [])
    assert "The metrics of last.ckpt are not recorded. These are the run's" in card["usage"]


@pytest.mark.parametrize(
    ("dataset", "names", "data", "expected"),
    [
        ("imagenet", imagenet_wnids(), {}, ("imagenet", "imagenet")),
        ("imagenet_wds", imagenet_wnids(), {}, ("imagenet", "imagenet")),
        ("imagenet", ["cat", "dog"], {}, ("own images in class folders (2 classes)", None)),
        ("imagenet_wds", ["cat", "dog"], {}, ("own images in shards (2 classes)", None)),
        ("imagenet", None, {}, ("own images in class folders (2 classes)", None)),
        ("hf", ["cat", "dog"], {"path": "uoft-cs/cifar10"}, ("uoft-cs/cifar10", "uoft-cs/cifar10")),
        ("hf", ["a"], {"path": "/home/me/photos"}, ("own images in the Hugging Face format (photos)", None)),
        ("hf", ["a"], None, ("own images in the Hugging Face format (name not recorded)", None)),
        ("digits", ["0", "1"], {}, ("digits", "digits")),
        (None, None, {}, (None, None)),
    ],
)
def test_data_that_only_looks_like_imagenet(dataset, names, data, expected):
    metadata = Metadata(dataset=dataset, class_names=None if names is None else tuple(names))
    assert training_data(metadata, data and {"data": data}, len(names or "ab")) == expected


def test_a_card_of_own_images(run):
    facts = Metadata(dataset="imagenet", class_names=("cat", "dog", "owl"))
    text = card_text(build_card(small_model(), run, facts, RECIPE, "ema", None, []), "soft_pico")
    assert "trained on own images in class folders (3 classes)." in text
    assert "imagenet" not in text
    assert "datasets:" not in text


def test_a_card_of_programs_for_another_size(run):
    files = ["model.pt2", "model.safetensors"]
    card = build_card(small_model(), run, FACTS, RECIPE, "ema", None, files, img_size=(64, 96))
    assert card["details"]["Model stats"]["Image size"] == "64x96 px in model.pt2; 32x48 px in the training"
    assert "FLOPs (multiply-adds)" not in card["details"]["Model stats"]
    assert "of digits at the training's 32x48 px" in card["usage"]
    same = build_card(small_model(), run, FACTS, RECIPE, "ema", None, files, img_size=(32, 48))
    assert same == build_card(small_model(), run, FACTS, RECIPE, "ema", None, files)


def test_files_of_an_earlier_export_are_named(tmp_path):
    for name in ("model.onnx", "model.pt2", "model.safetensors", "config.json", "notes.txt"):
        (tmp_path / name).touch()
    earlier = files_of_earlier_exports(tmp_path, ["model.pt2"])
    assert earlier == ["model.onnx", "model.safetensors", "config.json"]
    assert files_of_earlier_exports(tmp_path, ["model.safetensors"]) == ["model.pt2", "model.onnx"]
    card = build_card(small_model(), tmp_path / "w.pth", None, None, "raw", None, ["model.pt2"], earlier=earlier)
    assert "does not describe model.onnx, model.safetensors, config.json in this folder" in card["usage"]
    assert "onnxruntime" not in card["usage"]


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
