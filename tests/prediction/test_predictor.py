"""Predictions for images on the disk, without a command."""

import csv
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import soft
from soft.data.batches import normalise
from soft.data.transforms import EvalTransform
from soft.errors import SettingError
from soft.export.timm_folder import export_timm, hub_config
from soft.models.metadata import Metadata, attach_metadata
from soft.prediction.prediction_files import print_predictions, shown_class, write_predictions
from soft.prediction.predictor import Prediction, Predictions

FACTS = Metadata(
    class_names=("cat", "dog", "owl"),
    img_size=(32, 48),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.25),
    crop_pct=0.8,
    interpolation="bilinear",
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = timm.create_model("soft_pico", num_classes=3, img_size=(32, 48), num_landmarks=4)
    attach_metadata(model, FACTS)
    return model.eval()


@pytest.fixture
def folder(tmp_path, photographs):
    for number in range(5):
        photographs[number % 2].resize((60 + number, 50)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    return tmp_path


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"batch_size": 64, "num_workers": 1}], ids=str)
def test_an_image_is_prepared_as_in_training(model, folder, options):
    found = soft.predict(model, folder, **options)
    assert [image.file.name for image in found.images] == ["0.png", "1.png", "2.png", "4.png"]
    assert list(found.unreadable) == [str(folder / "3.png")]
    for image in found.images:
        pixels = EvalTransform((32, 48), 0.8, "bilinear")(Image.open(image.file))
        with torch.no_grad():
            expected = model(normalise(pixels.unsqueeze(0), FACTS.mean, FACTS.std)).softmax(-1)[0]
        assert dict(zip(image.classes, image.probabilities, strict=True)) == pytest.approx(
            dict(zip(FACTS.class_names, expected.tolist(), strict=True)), abs=1e-6
        )
        assert list(image.probabilities) == sorted(image.probabilities, reverse=True)
    assert found.preprocessing["img_size"] == [32, 48]
    assert not found.notes


def test_photographs_that_are_stored_turned_are_counted(model, folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation
    with Image.open(folder / "0.png") as image:
        image.convert("RGB").save(folder / "0.jpg", exif=exif)
    found = soft.predict(model, folder)
    assert [image.file.name for image in found.images] == ["0.jpg", "0.png", "1.png", "2.png", "4.png"]
    assert "orientation in EXIF data: 1 of the images." in found.notes[0]


def test_only_the_first_classes_and_pictures(model, folder):
    found = soft.predict(model, [folder / "0.png", folder / "1.png"], top=2, pictures=1)
    assert [len(image.classes) for image in found.images] == [2, 2]
    (picture,) = found.pictures
    assert picture.shape == (32, 48, 3)
    assert (torch.from_numpy(picture).permute(2, 0, 1) == EvalTransform((32, 48), 0.8, "bilinear")(
        Image.open(folder / "0.png")
    )).all()  # fmt: skip


def test_classes_without_names(folder):
    model = timm.create_model("soft_pico", num_classes=1000, img_size=32).eval()
    found = soft.predict(model, folder / "0.png", top=1)
    assert "taken to be ImageNet's" in found.notes[0]
    assert found.images[0].classes[0].startswith("n0")
    assert shown_class("n01440764") == "n01440764 tench, Tinca tinca"
    numbered = timm.create_model("soft_pico", num_classes=4, img_size=32).eval()
    found = soft.predict(numbered, folder / "0.png")
    assert sorted(found.images[0].classes) == ["0", "1", "2", "3"]
    assert "numbered" in found.notes[0]


def test_a_new_classifier_has_not_the_names_of_the_old_one(model, folder, tmp_path):
    export_timm(model, tmp_path, (32, 48))
    for classes in (2, 5):
        other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=classes).eval()
        found = soft.predict(other, folder / "0.png", top=classes)
        assert sorted(found.images[0].classes) == [str(number) for number in range(classes)]
        assert "numbered" in found.notes[0]
        assert hub_config(other) == {}
        attach_metadata(other, Metadata(mean=(0.5,) * 3))
        assert "label_names" not in other.pretrained_cfg
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert set(soft.predict(again, folder / "0.png").images[0].classes) == {"cat", "dog", "owl"}


def test_what_cannot_be_answered(model, folder):
    with pytest.raises(SettingError, match="None of the 1 images can be read"):
        soft.predict(model, folder / "3.png")
    with pytest.raises(SettingError, match="top=0 has to be"):
        soft.predict(model, folder, top=0)
    broken = timm.create_model("soft_pico", num_classes=3, img_size=32)
    torch.nn.init.constant_(broken.head.weight, float("nan"))
    with pytest.raises(SettingError, match="not finite"):
        soft.predict(broken, folder)


def test_a_model_of_token_ids_reads_no_pictures(folder):
    with pytest.raises(SettingError, match="reads token ids and no pictures"):
        soft.predict(timm.create_model("soft_encoder", num_landmarks=4), folder)
    model = timm.create_model("soft_encoder", img_size=16, in_chans=3, embedding="linear", num_landmarks=4)
    attach_metadata(model, Metadata(img_size=(32, 32)))
    with pytest.raises(SettingError, match=r"inputs of 16x16 alone; set img_size to \[16, 16\]"):
        soft.predict(model, folder)


def test_files(tmp_path, photographs, capsys):
    (tmp_path / "contact_sheet.png").write_text("an earlier command's")
    found = Predictions(
        images=[
            Prediction(tmp_path / "a [b], c.png", ("n01440764", "big, $cat$"), (0.75, 0.25)),
            Prediction(tmp_path / "b.png", ("big, $cat$", "n01440764"), (0.5, 0.5)),
        ],
        unreadable={"x.png": "it is empty"},
        preprocessing={"crop_pct": 0.8},
        notes=["A note."],
    )
    written = write_predictions(found, {"checkpoint": "w.ckpt"}, tmp_path)
    with written["predictions"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "rank", "class", "probability"]
    assert [row["class"] for row in rows] == ["n01440764", "big, $cat$", "big, $cat$", "n01440764"]
    assert (rows[0]["file"], rows[1]["rank"], float(rows[1]["probability"])) == (
        str(tmp_path / "a [b], c.png"),
        "2",
        0.25,
    )
    content = json.loads(written["as JSON"].read_text())
    assert content["images"][0]["predictions"][0] == {
        "rank": 1,
        "class": "n01440764",
        "name": "tench, Tinca tinca",
        "probability": 0.75,
    }
    assert content["unreadable"] == [{"file": "x.png", "reason": "it is empty"}]
    assert (content["checkpoint"], content["preprocessing"], content["notes"]) == (
        "w.ckpt",
        {"crop_pct": 0.8},
        ["A note."],
    )
    assert not (tmp_path / "contact_sheet.png").exists()

    print_predictions(found)
    printed = capsys.readouterr().out
    for text in (str(tmp_path / "a [b], c.png"), "tench, Tinca tinca", "75.0 %", "x.png cannot be read"):
        assert text in printed

    found.pictures.extend([np.asarray(photographs[0].resize((32, 24)))] * 2)
    sheet = Image.open(write_predictions(found, {}, tmp_path)["contact sheet"])
    assert sheet.width > sheet.height > 200


def test_a_name_that_is_no_text_stands_on_the_contact_sheet(tmp_path, photographs):
    """Linux allows a file that is called caf<E9>.jpg, which is no UTF-8."""
    image = Prediction(tmp_path / "caf\udce9\n.jpg", ("cat",), (1.0,))
    found = Predictions(images=[image], pictures=[np.asarray(photographs[0].resize((32, 24)))])
    written = write_predictions(found, {}, tmp_path)
    assert Image.open(written["contact sheet"]).width > 200
    assert r"caf\udce9" in written["predictions"].read_text()
