"""metrics.csv and the W&B run of a training that is resumed."""

import csv

import pytest

from soft.errors import SettingError
from soft.monitoring.csv_logger import CsvLogger
from soft.monitoring.loggers import settings_to_filter, tags_of
from soft.monitoring.wandb_logger import WandbRunLogger, create_wandb_logger, resolve_wandb_mode
from soft.runs.folder import mark_run, read_mark
from soft.runs.position import Position
from soft.runs.signals import Stopped
from tests.runs.test_exact_resume import stop_at
from tests.training.small_run import train
from tests.wandb_runs import logged, read_run


def log(folder, rows):
    logger = CsvLogger(str(folder))
    for row in rows:
        logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        logger.save()


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


# Rows of two epochs, each with two steps, a validation and the end of the epoch.
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
        (Position(0, 2, 2, True, 2), 2),  # the validation will be repeated
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


def offline(folder):
    return [create_wandb_logger(folder, mode="offline", name=None)]


@pytest.mark.slow
def test_a_resumed_run_is_the_same_in_wandb_with_the_best_of_both_parts(tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, stop_at("on_train_batch_end", 9), more_loggers=offline)  # in the second epoch
    # Pretend that the first epoch was better than every later one.
    table = tmp_path / "metrics.csv"
    rows = list(csv.DictReader(table.open(newline="")))
    for row in rows:
        row["val/top1"] = row["val/top1"] and "99.5"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    train(tmp_path, more_loggers=offline)
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert [path.name for path in files] == 2 * [f"run-{read_mark(tmp_path)['id']}.wandb"]
    first, second = (read_run(path)[0] for path in files)
    assert first["exit_code"] == 143  # the exit code of SIGTERM
    assert second["exit_code"] == 0
    assert second["summary"]["val/top1"] == {"max": 99.5}
    assert set(second["summary"]["val/loss"]) == {"min"}


@pytest.mark.slow
@pytest.mark.parametrize("log_model", [True, "all"])
def test_checkpoints_as_artifacts(log_model, tmp_path):
    """Lightning takes this run for one that uploads; it is offline, because no W&B server answers here."""

    def loggers(folder):
        return [WandbRunLogger(save_dir=folder, offline=False, mode="offline", log_model=log_model)]

    trainer = train(tmp_path, more_loggers=loggers, optimizer={"lr": 0.01}, epochs=6)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    _, _, records = read_run(path)
    top1 = logged(records, "val/top1")
    improved = sum(value > max(top1[:epoch], default=-1) for epoch, value in enumerate(top1))
    assert improved > 1
    artifacts = [record for record in records if "artifact" in record["type"]]
    assert len(artifacts) == (1 if log_model is True else improved)
    assert "model.ckpt" in str(artifacts[-1])
    assert set(trainer.loggers[1]._logged_model_time) == {trainer.checkpoint_callback.best_model_path}


def test_checkpoints_of_runs_that_upload_nothing(tmp_path):
    with pytest.raises(SettingError, match="log_model=true uploads checkpoints, and this run is offline"):
        create_wandb_logger(str(tmp_path), mode="offline", log_model=True)
    with pytest.raises(SettingError, match="log_model"):
        create_wandb_logger(str(tmp_path), mode="disabled", log_model="some")
    assert create_wandb_logger(str(tmp_path), mode="disabled", log_model=True).disabled


def test_names_that_are_typed_win(tmp_path):
    open_names = create_wandb_logger(str(tmp_path), mode="offline", name=None, group=None, tags=None)
    open_names.name_run("seed=0", "sweep", ["soft_pico"], ["landmarks"], job_type="evaluation")
    typed = create_wandb_logger(
        str(tmp_path), mode="offline", name="mine", group="ours", tags=["first"], job_type="train"
    )
    typed.name_run("seed=0", "sweep", ["soft_pico"], ["landmarks"], job_type="evaluation")
    keys = ("name", "group", "tags", "job_type")
    names = [[logger._wandb_init[key] for key in keys] for logger in (open_names, typed)]
    assert names == [
        ["seed=0", "sweep", ["soft_pico", "landmarks"], "evaluation"],
        ["mine", "ours", ["first", "landmarks"], "train"],
    ]
    with pytest.raises(SettingError, match=r"logger.wandb.tags=banana has to be a list of texts"):
        create_wandb_logger(str(tmp_path), mode="offline", tags="banana")


def test_tags_are_the_names_that_a_recipe_has():
    recipe = {"model": {"name": "soft_pico", "attention": {"attention": "soft"}}, "data": {"dataset": "digits"}}
    assert tags_of(recipe) == ["soft_pico", "digits", "soft"]
    assert tags_of({"model": {"attention": {}}, "data": None}) == []


def test_settings_to_filter_repeat_nothing():
    augment = {"_target_": "a.B", "hflip": 0.5}
    recipe = {
        "seed": 3,
        "output_dir": "somewhere",
        "model": {"attention": {"num_landmarks": 4}, "recipe": {"num_landmarks": 9}},
        "augment": augment,
        "data": {"_target_": "a.C", "_convert_": "all", "dataset": "digits", "augment": augment, "seed": 3},
        "logger": {"csv": {}},
        "callbacks": {},
        "suggested": {"lr": 1e-3},
        "study": {"name": "landmarks", "scale": "laptop", "scales": {"laptop": {}}, "paper": [{"when": {}}]},
    }
    assert settings_to_filter(recipe) == {
        "seed": 3,
        "model": {"attention": {"num_landmarks": 4}},
        "augment": {"hflip": 0.5},
        "data": {"dataset": "digits"},
        "study": {"name": "landmarks", "scale": "laptop"},
    }


@pytest.mark.parametrize(("value", "mode"), [("dryrun", "offline"), ("offline", "offline"), ("disabled", "disabled")])
def test_the_environments_mode(value, mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", value)
    assert resolve_wandb_mode("auto") == mode


def test_an_unknown_mode_of_the_environment_is_a_sentence(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(SettingError, match="WANDB_MODE='ofline'"):
        resolve_wandb_mode("auto")
