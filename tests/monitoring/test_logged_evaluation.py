"""What loggers are given of an evaluation, besides the files that W&B writes of it."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image

from soft.monitoring import logged_evaluation
from soft.monitoring.logged_evaluation import log_evaluation
from soft.monitoring.wandb_logger import WandbRunLogger
from tests.studies.runs import write_evaluation

RESULT = {"top1": 87.5, "loss": 0.5, "ece": 7.25, "images": 8, "model": "soft_pico", "notes": ["a word"]}


class Board(TensorBoardLogger):
    """TensorBoardLogger that keeps what it is given."""

    experiment = None

    def __init__(self):
        self.metrics, self.images = {}, {}
        self.experiment = SimpleNamespace(
            add_image=lambda name, pixels, step, dataformats: self.images.update({name: (pixels.shape, dataformats)})
        )

    def log_metrics(self, metrics, step=None):
        self.metrics |= metrics


class Wandb(WandbRunLogger):
    """WandbRunLogger that keeps what it is given."""

    experiment = None

    def __init__(self, mode="offline"):
        self.rows = {}
        self._wandb_init = {"mode": mode}
        self.experiment = SimpleNamespace(log=self.rows.update)


@pytest.fixture
def folder(tmp_path):
    write_evaluation(tmp_path / "evaluation", tmp_path / "best.ckpt")
    Image.new("L", (40, 30)).save(tmp_path / "evaluation" / "confusion.png")
    return tmp_path / "evaluation"


def test_tensorboard_gets_numbers_and_pictures(folder, tmp_path):
    board = Board()
    assert log_evaluation([board, CSVLogger(tmp_path)], RESULT, folder, details=True) == []
    assert board.metrics == {
        "evaluation/top1": 87.5,
        "evaluation/loss": 0.5,
        "evaluation/ece": 7.25,
        "evaluation/images": 8,
    }
    assert board.images == {
        "evaluation/confusion_matrix": ((30, 40, 3), "HWC"),
        "evaluation/mistakes": ((300, 900, 3), "HWC"),
    }


def test_files_of_another_evaluation_are_not_logged(folder):
    board, run = Board(), Wandb()
    log_evaluation([board, run], RESULT, folder, details=False)
    assert board.images == {}
    assert set(run.rows) == {"top1", "loss", "ece", "images"}


def test_large_tables_begin_with_the_mistakes(folder, monkeypatch):
    monkeypatch.setattr(logged_evaluation, "MAX_ROWS", 3)
    run = Wandb()
    (note,) = log_evaluation([run], RESULT, folder, details=True)
    assert note == "W&B has 3 of the 8 predictions, the mistakes first; predictions.csv has all."
    predictions = run.rows["predictions"].data
    assert [row[0] for row in predictions] == ["3", "7", "6"]  # the mistake, and then by probability
    assert run.rows["confusion"].data == [["cat", "cat", 3], ["cat", "dog", 1], ["dog", "dog", 4]]
    assert run.rows["per_class"].columns[:3] == ["class", "images", "correct"]


def test_a_disabled_run_is_left_alone(folder):
    run = Wandb(mode="disabled")
    assert log_evaluation([run], RESULT, folder, details=True) == []
    assert run.rows == {}
