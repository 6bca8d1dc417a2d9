"""Every answer of an evaluation: recorded with its image, and how far the probabilities can be trusted."""

import csv

import numpy as np
import pytest
import timm
import torch
from torchmetrics.classification import MulticlassCalibrationError

import soft
from soft.analysis.answers import BINS, AnswerRecorder, Answers
from soft.analysis.details import write_tables
from soft.launch.hardware import choose_hardware
from soft.launch.trainer import create_trainer
from soft.models.metadata import Metadata, attach_metadata
from soft.studies.run_evaluation import calibration_figure
from soft.training.evaluator import ImageEvaluator
from tests.data.class_folders import write_class_folders


def test_the_calibration_error_is_torchmetrics():
    torch.manual_seed(0)
    metric = MulticlassCalibrationError(7, n_bins=BINS, norm="l1")
    logits, labels = 3 * torch.randn(500, 7), torch.randint(7, (500,))
    highest, classes = logits.softmax(-1).max(-1)
    answers = Answers(np.arange(500), labels.numpy(), classes.numpy(), highest.numpy(), highest.numpy())
    assert answers.calibration_error() == pytest.approx(100 * float(metric(logits.softmax(-1), labels)), abs=1e-4)
    assert answers.calibration_error() > 10

    certain = Answers(*(np.arange(3),) * 3, *(np.ones(3, np.float32),) * 2)
    assert certain.calibration_error() == pytest.approx(0, abs=1e-4)  # a rounding of 100 % from 1
    broken = Answers(*(np.arange(3),) * 3, *(np.full(3, np.nan, np.float32),) * 2)
    assert np.isnan(broken.calibration_error())


def test_a_probability_of_one_is_in_the_last_interval():
    probabilities = np.repeat(np.array([1.0, 0.94], np.float32), 100)
    right = np.arange(200) >= 5  # 95 of the certain answers, and all others
    answers = Answers(np.arange(200), np.zeros(200, int), (~right).astype(int), probabilities, probabilities)
    assert answers.calibration_error() == pytest.approx(0.5, abs=1e-3)  # 97.5 % right at 97 % in the mean
    rows = [
        {"probability": p, "label": "a", "class": "a" if r else "b"} for p, r in zip(probabilities, right, strict=True)
    ]
    measured, _ = calibration_figure(rows).series
    assert (measured.x, measured.y) == (pytest.approx([97.0]), [97.5])


def test_answers_stay_with_their_images(tmp_path):
    """A file that cannot be read leaves no gap; the model has more classes than the data, in another order."""
    root = write_class_folders(tmp_path / "data", val=5)
    damaged = sorted((root / "val" / "n01440764").iterdir())[1]
    damaged.write_bytes(b"no image")
    torch.manual_seed(0)
    model = timm.create_model("soft_pico", num_classes=3, img_size=32).eval()
    names = ("n02119789", "other", "n01440764")
    attach_metadata(
        model,
        Metadata(None, None, names, (32, 32), (0.5,) * 3, (0.2,) * 3, crop_pct=0.8, interpolation="bilinear"),
    )
    data = soft.ImageDataModule(
        "imagenet",
        root=root,
        img_size=32,
        num_classes=None,
        mean=[0.5] * 3,
        std=[0.2] * 3,
        crop_pct=0.8,
        interpolation="bilinear",
        val_batch_size=3,
        num_workers=0,
        max_bad_images=1,
        expected=None,
    )
    data.setup("validate")
    recorder, evaluator = AnswerRecorder(), ImageEvaluator(model, [2, 0])
    trainer = create_trainer(
        choose_hardware(None, accelerator="cpu", devices=1), None, [recorder], enable_model_summary=False
    )
    trainer.validate(evaluator, data, verbose=False)

    answers = recorder.answers
    assert len(answers) == 9
    assert 100 * answers.correct.mean() == pytest.approx(float(trainer.callback_metrics["val/top1"]))
    write_tables(answers, names, [2, 0], data.sets.val, tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    found = soft.predict(model, root / "val", top=3)
    assert {str(image.file) for image in found.images} == set(rows)
    assert str(damaged) in found.unreadable
    for image in found.images:
        row, likely = rows[str(image.file)], dict(zip(image.classes, image.probabilities, strict=True))
        assert row["label"] == image.file.parent.name
        assert row["class"] == image.classes[0]
        assert float(row["probability"]) == pytest.approx(image.probabilities[0], abs=1e-5)
        assert float(row["label_probability"]) == pytest.approx(likely[row["label"]], abs=1e-5)
