"""What is done with a trained model: one short run on the digits, and the commands that take its checkpoint."""

import csv
import json
import shutil
from types import SimpleNamespace
from unittest import mock

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from PIL import Image

import soft
from cli.recorded import training_command
from soft.export.torch_program import program_metadata
from tests.end_to_end.conftest import DIGITS
from tests.golden import relative_error
from tests.invoke import invoke
from tests.wandb_runs import logged, read_run


@pytest.fixture(scope="module")
def folder(digits):
    """Return a folder with best.ckpt after two epochs on the digits, and with 30 of their test images as PNG files."""
    folder = digits[0].parent
    data = soft.ImageDataModule("digits")
    data.setup("validate")
    (folder / "images").mkdir()
    for index in range(30):
        image, label = data.sets.val[index]
        image.save(folder / "images" / f"{index:02d}_{label}.png")
    (folder / "images" / "zz.png").write_bytes(b"not a picture")
    return folder


CHECKPOINT = "checkpoint=run/checkpoints/best.ckpt"
TRAINED = f"python src/train.py {' '.join(DIGITS)}"


def test_predict(folder):
    done = invoke(
        "predict.py", CHECKPOINT, "images=images", "top=3", "contact_sheet=4", "hydra.run.dir=predicted", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    with (folder / "predicted" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    first = [row for row in rows if row["rank"] == "1"]
    right = sum(row["class"] == row["file"][-5] for row in first)
    assert right > 20
    content = json.loads((folder / "predicted" / "predictions.json").read_text())
    assert [entry["file"] for entry in content["unreadable"]] == ["images/zz.png"]
    assert content["images"][0]["file"] == "images/00_7.png"
    assert content["preprocessing"]["img_size"] == [32, 32]
    assert Image.open(folder / "predicted" / "contact_sheet.png").width > 1000
    for text in ("images/00_7.png", "images/zz.png cannot be read", "predicted/predictions.csv"):
        assert text in done.stdout

    # The same file under a pattern, alone, and from Python
    invoke("predict.py", CHECKPOINT, "images=images/0*.png", "batch_size=3", "hydra.run.dir=few", cwd=folder)
    with (folder / "few" / "predictions.csv").open(newline="") as file:
        few = [row for row in csv.DictReader(file) if row["rank"] == "1"]
    assert [row["file"] for row in few] == [row["file"] for row in first[:10]]
    found = soft.predict(soft.load_model(folder / "run" / "checkpoints" / "best.ckpt"), folder / "images" / "03_*.png")
    assert found.images[0].probabilities[0] == pytest.approx(float(first[3]["probability"]), abs=1e-5)


def test_predict_with_other_files(folder):
    checkpoint = torch.load(folder / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    old = {key: value for key, value in checkpoint.items() if key != "metadata"}
    torch.save(old, folder / "old.ckpt")
    done = invoke("predict.py", "checkpoint=old.ckpt", "images=[images/00_7.png]", "hydra.run.dir=old", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "as its recipe says" in done.stdout
    assert "they are numbered" in done.stdout

    bare = {k.removeprefix("model."): v for k, v in old["state_dict"].items() if k.startswith("model.")}
    torch.save(bare, folder / "bare.pth")
    words = ("checkpoint=bare.pth", "images=images/00_7.png", "model=soft_pico", "hydra.run.dir=bare")
    done = invoke("predict.py", *words, cwd=folder)
    assert done.returncode == 2
    assert "bare.pth does not say how to prepare images; add data=" in done.stderr
    done = invoke("predict.py", *words, "data=digits", "weights=raw", cwd=folder)
    assert done.returncode == 0, done.stderr
    prepared = json.loads((folder / "bare" / "predictions.json").read_text())["preprocessing"]
    assert prepared == json.loads((folder / "old" / "predictions.json").read_text())["preprocessing"]


@pytest.mark.slow
def test_evaluate_in_depth(folder):
    done = invoke("evaluate.py", CHECKPOINT, "hydra.run.dir=evaluated", cwd=folder)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "evaluated" / "evaluation.json").read_text())
    with (folder / "evaluated" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(index) for index in range(360)]
    right = [row["label"] == row["class"] for row in rows]
    assert 100 * sum(right) / 360 == pytest.approx(result["top1"])
    with (folder / "evaluated" / "per_class.csv").open(newline="") as file:
        assert sum(int(row["correct"]) for row in csv.DictReader(file)) == sum(right)
    assert 0 < result["ece"] < 100
    assert f"{result['ece']:.2f} % expected error" in done.stdout
    assert "weakest classes" in done.stdout
    for picture in ("confusion.png", "mistakes.png"):
        assert Image.open(folder / "evaluated" / picture).width > 300

    # The same images as files have the same answers
    found = soft.predict(soft.load_model(folder / "run" / "checkpoints" / "best.ckpt"), folder / "images")
    for row, image in zip(rows, found.images, strict=False):
        assert row["class"] == image.classes[0]
        assert float(row["probability"]) == pytest.approx(image.probabilities[0], abs=1e-4)

    invoke("evaluate.py", CHECKPOINT, "details=false", "hydra.run.dir=short", cwd=folder)
    short = json.loads((folder / "short" / "evaluation.json").read_text())
    assert short == {key: value for key, value in result.items() if key != "ece"} | {
        "images_per_second": short["images_per_second"]
    }
    assert not list((folder / "short").glob("*.csv"))
    done = invoke("evaluate.py", "checkpoint=[a.ckpt,b.ckpt]", "hydra.run.dir=mistake", cwd=folder)
    assert (done.returncode, "takes one file at a time" in done.stderr) == (2, True)


@pytest.mark.slow
def test_an_evaluation_in_wandb(folder):
    words = ("logger=wandb", "logger.wandb.mode=offline", "model.attention.newton_iters=5", "hydra.run.dir=in_wandb")
    done = invoke("evaluate.py", CHECKPOINT, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    out = folder / "in_wandb"
    result = json.loads((out / "evaluation.json").read_text())
    (path,) = out.glob("wandb/offline-run-*/*.wandb")
    digest, run_record, records = read_run(path)
    for name in ("top1", "top5", "loss", "ece", "attention/share_stage1"):
        assert digest["summary"][name] == pytest.approx(result[name])
    trained = json.loads((folder / "run" / "run.json").read_text())
    assert (run_record["job_type"], digest["name"]) == ("evaluation", "soft_pico-digits best")
    assert run_record["run_id"] != trained["id"] == digest["config"]["trained_as"]
    assert digest["tags"] == ["soft_pico", "digits", "soft"]
    config = digest["config"]
    assert config["model"]["attention"]["newton_iters"] == 5  # as it was evaluated
    assert config["model"]["attention"]["num_landmarks"] == 9  # as it was trained
    assert config["command"].endswith(f"evaluate.py {CHECKPOINT} {' '.join(words)}")
    assert not (out / "metrics.csv").exists()

    # Tables and pictures
    media = path.parent / "files" / "media"
    (predictions,) = (media / "table").glob("predictions_*.json")
    table = json.loads(predictions.read_text())
    assert table["columns"] == ["file", "label", "class", "probability", "label_probability"]
    assert len(table["data"]) == 360
    wrong = [row for row in table["data"] if row[1] != row[2]]
    assert table["data"][: len(wrong)] == sorted(wrong, key=lambda row: -row[3])
    (classes,) = (json.loads(path.read_text())["data"] for path in (media / "table").glob("per_class_*.json"))
    assert [row[1] for row in classes] == [int(row["images"]) for row in read(out / "per_class.csv")]
    (confusions,) = (json.loads(path.read_text())["data"] for path in (media / "table").glob("confusion_*.json"))
    assert sum(count for *_, count in confusions) == 360
    for name, file in (("confusion_matrix", "confusion.png"), ("mistakes", "mistakes.png")):
        (picture,) = (media / "images").glob(f"{name}_*.png")
        assert picture.read_bytes() == (out / file).read_bytes()
        assert logged(records, f"{name}._type") == ["image-file"]


def test_an_evaluation_in_the_folder_of_its_training_is_a_run_of_its_own(folder):
    out = folder / "shared"
    shutil.copytree(folder / "run", out)
    before = (out / "metrics.csv").read_bytes()
    words = ("logger=wandb", "logger.wandb.mode=offline", "details=false", "hydra.run.dir=shared")
    done = invoke("evaluate.py", "checkpoint=shared/checkpoints/best.ckpt", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("wandb/offline-run-*/*.wandb")
    digest, run_record, _ = read_run(path)
    assert run_record["run_id"] != json.loads((out / "run.json").read_text())["id"]
    assert digest["summary"]["top1"] > 50
    assert not (path.parent / "files" / "media").exists()
    assert (out / "metrics.csv").read_bytes() == before
    # What was typed for the evaluation is not taken for the command of the training.
    assert training_command(str(out)) == training_command(str(folder / "run")) == TRAINED
    shutil.rmtree(out)


def test_where_an_evaluation_cannot_be_logged(folder):
    done = invoke("evaluate.py", CHECKPOINT, "logger=csv", "hydra.run.dir=mistake", cwd=folder)
    assert (done.returncode, "logger=csv adds nothing to evaluation.json" in done.stderr) == (2, True)
    with mock.patch.dict("sys.modules", {"wandb": None}):
        done = invoke("evaluate.py", CHECKPOINT, "logger=wandb", "hydra.run.dir=mistake", cwd=folder)
    assert done.returncode == 2
    assert "This needs the package wandb, which is not installed: pip install -e '.[train]'." in done.stderr
    assert not (folder / "mistake").exists()


def read(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_page_of_a_run(folder):
    done = invoke("report.py", "run=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "soft_pico-digits: val/top1" in done.stdout
    assert "report: run/report/report.html" in done.stdout
    assert "src/evaluate.py checkpoint=run/checkpoints/best.ckpt hydra.run.dir=run/evaluation" in done.stdout
    text = (folder / "run" / "report" / "report.html").read_text()
    assert f"<code>{TRAINED}</code>" in text
    assert "<td>schedule.epochs</td><td>2</td><td>20</td>" in text
    with mock.patch("cli.evaluate_run.subprocess.run", return_value=SimpleNamespace(returncode=0)) as started:
        done = invoke("report.py", "run=run", "evaluate=true", "out=page", cwd=folder)
    assert done.returncode == 0, done.stderr
    commands = [call.args[0][1:] for call in started.call_args_list]
    assert [script.name for script, *_ in commands] == ["evaluate.py", "visualize.py"]
    for script, *words in commands:  # here in this process, which takes a fraction of the time
        assert invoke(script.name, *words, cwd=folder).returncode == 0
    done = invoke("report.py", "run=run", "out=page", cwd=folder)
    assert "is shown here after" not in done.stdout
    text = (folder / "page" / "report.html").read_text()
    for part in ("Confusion matrix", "Calibration", 'alt="mistaken images"', 'alt="attention maps"', "Image: <code>0<"):
        assert part in text

    # An evaluation elsewhere is found by its checkpoint
    for name in ("evaluation", "attention_maps"):
        (folder / "run" / name).rename(folder / f"moved_{name}")
    done = invoke("evaluate.py", CHECKPOINT, "weights=raw", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = invoke("report.py", "run=run", "out=page", "maps=moved_attention_maps", cwd=folder)
    assert "from <code>outputs/evaluate/" in (folder / "page" / "report.html").read_text()
    assert "is shown here after" not in done.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "report takes either sweep=DIR or run=DIR, and neither was given"),
        (["sweep="], "report takes either sweep=DIR or run=DIR, and neither was given"),
        (["run=run", "sweep=run"], "report takes either sweep=DIR or run=DIR, and both were given"),
        (["sweep=run"], "sweep=run is the folder of a single run; run=run makes its page"),
        (["run=."], "run=. is no run, and holds one run: sweep=. reports on a sweep, and run=run on one run."),
        (["run=images"], "run=images holds no run; name the folder of one"),
        (["run=nowhere"], "run=nowhere is no folder"),
        (["run=run", "page=false"], "page=false leaves nothing to write of a run"),
        (["run=run", "evaluation=images"], "evaluation=images holds no evaluation.json"),
        (["run=run", "maps=images"], "maps=images holds no attention_maps.png"),
        (["sweep=run", "evaluate=true"], "evaluate is for the page of one run"),
    ],
    ids=str,
)
def test_report_mistakes_end_in_a_sentence(folder, words, text):
    done = invoke("report.py", *words, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: ")
    assert text in done.stderr


@pytest.mark.slow
def test_every_format_has_the_same_outputs(folder):
    done = invoke("export.py", CHECKPOINT, "format=all", "float16_batch=3", "hydra.run.dir=exported", cwd=folder)
    assert done.returncode == 0, done.stderr
    out = folder / "exported"
    model = soft.load_model(folder / "run" / "checkpoints" / "best.ckpt")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    files = sorted((folder / "images").glob("0*.png"))[:3]
    images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(timm.create_model(f"local-dir:{out}", pretrained=True).eval()(images), expected)
        program = torch.export.load(out / "model.pt2").module()
        assert relative_error(program(images), expected) < 1e-5
    for name, kind, limit in (("model.onnx", np.float32, 1e-4), ("model_float16.onnx", np.float16, 1e-2)):
        session = onnxruntime.InferenceSession(str(out / name), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {"images": images.numpy().astype(kind)})
        assert relative_error(torch.from_numpy(logits).float(), expected) < limit
        metadata = session.get_modelmeta().custom_metadata_map
        assert json.loads(metadata["class_names"]) == [str(digit) for digit in range(10)]
        assert {"mean", "std", "crop_pct", "interpolation", "img_size"} <= set(metadata)
    assert program_metadata(out / "model.pt2")["class_names"] == [str(digit) for digit in range(10)]
    card = (out / "README.md").read_text()
    assert "not recorded" not in card
    assert f"command: `{TRAINED}`" in card
    log = out / "export.log"
    assert not log.exists() or log.stat().st_size < 5000


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["format=tflite"], "format='tflite' is not known; it is one of pt2, onnx, safetensors, all"),
        (["float16_batch=2"], "float16_batch is for ONNX; add format=onnx"),
        (["format=onnx", "float16_batch=0"], "float16_batch=0 has to be a whole number of at least 1"),
        (["push_to_hub=me/model"], "push_to_hub needs an account"),
        (["img_size=0"], "img_size=0 has to be a whole number of pixels"),
    ],
    ids=str,
)
def test_export_mistakes_end_in_a_sentence(folder, words, text, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = invoke("export.py", CHECKPOINT, *words, "hydra.run.dir=mistake", cwd=folder)
    assert done.returncode == 2
    assert text in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["images=nowhere"], "images=nowhere does not exist"),
        (["images=images/*.jpg"], "images=images/*.jpg matches no file"),
        (["images=images/zz.png"], "None of the 1 images can be read, such as images/zz.png"),
        (["images=images", "top=0"], "top=0 has to be a whole number of at least 1"),
        (["images=images", "contact_sheet=true"], "contact_sheet=True has to be a number"),
        (["images=images", "img_size=big"], "img_size='big' has to be a whole number of pixels"),
        ([], "images has no value; add images="),
    ],
    ids=str,
)
def test_predict_mistakes_end_in_a_sentence(folder, words, text):
    done = invoke("predict.py", CHECKPOINT, *words, "hydra.run.dir=mistake", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
