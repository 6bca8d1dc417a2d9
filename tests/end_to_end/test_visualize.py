"""`python src/visualize.py` on checkpoints of short runs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

import soft
from tests.end_to_end.command import run_fresh, run_here

SHORT = ("trainer.max_steps=3", "trainer.limit_val_batches=1", "logger=csv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a photo, and with soft.ckpt after three steps on the digits."""
    folder = tmp_path_factory.mktemp("visualize")
    Image.fromarray(load_sample_image("china.jpg")).save(folder / "photo.jpg")
    train(folder, "soft")
    return folder


def train(folder, attention):
    run_here("train.py", f"model/attention={attention}", *SHORT, f"hydra.run.dir={attention}", cwd=folder)
    (folder / attention / "checkpoints" / "last.ckpt").rename(folder / f"{attention}.ckpt")


@pytest.mark.slow
def test_several_checkpoints_stand_side_by_side(folder):
    train(folder, "performer")
    done = run_fresh(
        "visualize.py",
        "image=photo.jpg",
        "checkpoint=[soft.ckpt,performer.ckpt]",
        "points=[[0.2,0.3],[0.9,0.9]]",
        "hydra.run.dir=two",
        cwd=folder,
    )
    picture = folder / "two" / "attention_maps.png"
    assert "two/attention_maps.png" in done.stdout
    assert "Note: All weights are alike in soft stages.1.blocks.0" in done.stdout
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    assert 1 < width / height < 2  # two rows of three panels
    # The maps of both models are coloured, and they differ.
    soft, performer = (pixels[:, third * width // 3 : (third + 1) * width // 3] for third in (1, 2))
    assert min(abs(panel - panel.mean(-1, keepdims=True)).mean() for panel in (soft, performer)) > 10
    assert abs(soft[:, : performer.shape[1]] - performer[:, : soft.shape[1]]).mean() > 5


def test_a_file_without_a_recipe_takes_the_model_from_the_command_line(folder):
    weights = {
        key.removeprefix("model."): value
        for key, value in torch.load(folder / "soft.ckpt", weights_only=True)["state_dict"].items()
        if key.startswith("model.")
    }
    torch.save(weights, folder / "bare.pth")
    arguments = ("visualize.py", "image=photo.jpg", "checkpoint=bare.pth", "hydra.run.dir=bare", "img_size=[64,96]")
    assert "add model=soft_tiny" in run_here(*arguments, cwd=folder, expect=2).stderr
    run_here(*arguments, "model=soft_pico", "data=digits", "stage=1", "head=0", cwd=folder)
    wide = Image.open(folder / "bare" / "attention_maps.png")
    assert wide.width > 0.5 * wide.height  # two columns of three rows, each wider than high


def test_a_picture_is_decoded_as_for_a_prediction(folder):
    """16 bits a channel become 8."""
    from visualize import _open_image

    levels = np.zeros((20, 40), np.uint16)
    levels[:, 20:] = 50_000
    Image.fromarray(levels).save(folder / "deep.png")
    left, right = np.split(np.asarray(_open_image(str(folder / "deep.png"), "x.ckpt", None)), 2, axis=1)
    assert (left.mean(), right.mean()) == (0, 50_000 >> 8)


def test_a_validation_image_is_named_by_its_number(folder):
    done = run_here("visualize.py", "image=3", "checkpoint=soft.ckpt", "hydra.run.dir=third", cwd=folder)
    assert "third/attention_maps.png" in done.stdout
    facts = json.loads((folder / "third" / "attention_maps.json").read_text())
    assert (facts["image"], facts["checkpoints"]) == ("3", ["soft.ckpt"])
    # The first panel is that image.
    data = soft.ImageDataModule("digits")
    data.setup("validate")
    picture = np.asarray(data.sets.val[3][0].convert("L").resize((40, 40)), float)
    figure = Image.open(folder / "third" / "attention_maps.png").convert("L")
    side = figure.width // 4
    panel = np.asarray(figure.crop((8, 120, side - 8, 120 + side - 16)).resize((40, 40)), float)
    assert np.corrcoef(picture.ravel(), panel.ravel())[0, 1] > 0.5
    text = "image=360 is not there: digits has validation images 0 to 359."
    assert text in run_here("visualize.py", "image=360", "checkpoint=soft.ckpt", cwd=folder, expect=2).stderr
    with Image.open(folder / "photo.jpg") as photo:
        photo.save(folder / "7", format="png")
    run_here("visualize.py", "image=7", "checkpoint=soft.ckpt", "hydra.run.dir=named", "stage=1", cwd=folder)
    wide = Image.open(folder / "named" / "attention_maps.png")
    assert wide.width > 200


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["image=nowhere.jpg", "checkpoint=soft.ckpt"], "image=nowhere.jpg does not exist, or cannot be read"),
        (
            ["image=photo.jpg", "checkpoint=soft.ckpt", "stage=4"],
            "stage=4 is not a stage with attention maps; choose 1",
        ),
        (["image=photo.jpg", "checkpoint=[soft.ckpt,soft.ckpt]", "points=[[2,0]]"], "points=[2, 0] has to be"),
        (["image=photo.jpg", "checkpoint=[]"], "checkpoint=[] names no file"),
        (["image=photo.jpg"], "checkpoint has no value; add checkpoint="),
    ],
    ids=["image", "stage", "point", "checkpoint", "no checkpoint"],
)
def test_mistakes_end_in_a_sentence(arguments, text, folder):
    done = run_here("visualize.py", *arguments, cwd=folder, expect=2)
    assert done.stderr.startswith("ERROR: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
