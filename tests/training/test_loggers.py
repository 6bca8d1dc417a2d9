"""metrics.csv of a run that goes on."""

import csv

import pytest

from soft.training.loggers import CsvLogger, create_wandb_logger
from soft.training.position import Position
from soft.training.runs import mark_run, read_mark


def log(folder, rows):
    logger = CsvLogger(str(folder))
    for row in rows:
        logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        logger.save()


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


# Two epochs of two steps, each with a validation and an end.
ROWS = [
    {"step": 0, "lr": 1.0, "loss": 5.0},
    {"step": 1, "lr": 1.0, "loss": 4.0},
    {"step": 1, "top1": 10.0},
    {"step": 1, "loss_epoch": 4.5},
    {"step": 2, "lr": 1.0, "loss": 3.0},
    {"step": 3, "lr": 1.0, "loss": 2.0},
    {"step": 3, "top1": 20.0},
    {"step": 3, "loss_epoch": 2.5},
]


@pytest.mark.parametrize(
    ("position", "kept"),
    [
        (Position(0, 1, 1, False, 1), 1),
        (Position(0, 2, 2, True, 2), 2),  # the validation is done again
        (Position(1, 0, 0, False, 2), 4),
        (Position(1, 1, 1, False, 3), 5),
        (Position(2, 0, 0, False, 4), 8),
        (None, 0),
    ],
    ids=str,
)
def test_rows_after_the_checkpoint_are_logged_again(position, kept, tmp_path):
    log(tmp_path, ROWS)
    whole = (tmp_path / "metrics.csv").read_bytes()
    CsvLogger(str(tmp_path)).go_on_from(position)
    if kept:
        assert read(tmp_path) == ROWS[:kept]
    log(tmp_path, ROWS[kept:])
    assert (tmp_path / "metrics.csv").read_bytes() == whole


def test_the_last_line_of_a_killed_run_may_be_a_part(tmp_path):
    log(tmp_path, ROWS)
    whole = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").write_bytes(whole[:-6])
    CsvLogger(str(tmp_path)).go_on_from(Position(2, 0, 0, False, 4))
    assert read(tmp_path) == ROWS[:7]


def test_a_run_goes_on_under_its_wandb_id(tmp_path):
    assert create_wandb_logger(str(tmp_path), mode="offline")._id is None
    mark_run(tmp_path, {})
    logger = create_wandb_logger(str(tmp_path), mode="offline")
    assert logger._wandb_init["id"] == read_mark(tmp_path)["id"]
    assert logger._wandb_init["resume"] == "allow"
