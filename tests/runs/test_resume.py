"""The runs that resume finds in folders, and the checkpoints from which it goes on."""

import csv
import io
import json
import multiprocessing
import subprocess
import time

import pytest
import torch

import soft
from soft.data.sampling import EpochSampler
from soft.errors import SettingError
from soft.runs.folder import claim, find_unfinished, mark_run, read_mark
from soft.runs.last_checkpoint import newest_checkpoint
from soft.runs.resume import open_run
from soft.runs.signals import Stopped
from tests.runs.test_exact_resume import stop_at
from tests.training.small_run import Hook, outcome, train, unequal

RECIPE = {"a": 1, "b": {"c": [1, 2]}}


def touch(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return the folder of a run that was stopped in its second epoch, with a checkpoint at every step."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped):
        train(folder, stop_at("on_train_batch_end", 9), checkpoint_every=1)
    return folder


@pytest.fixture
def copy(stopped, tmp_path):
    """Return the folder of a copy of the stopped run, which a test may change."""
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-a", stopped, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return outcome(train(tmp_path_factory.mktemp("whole"), checkpoint_every=1))


def test_folder_of_checkpoints(stopped):
    assert {path.name for path in (stopped / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    steps = {
        name: torch.load(stopped / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("best", "previous", "last")
    }
    assert steps == {"best": 3, "previous": 4, "last": 5}


def test_a_folder_without_a_run(tmp_path):
    assert open_run(None, tmp_path, RECIPE).note == ""
    assert "a new run" in open_run("auto", tmp_path, RECIPE).note
    mark_run(tmp_path, RECIPE)  # the mark of a run that ended before its training began
    assert open_run(None, tmp_path, {"a": 2}).checkpoint is None


def test_a_folder_with_a_run(tmp_path):
    mark_run(tmp_path, RECIPE)
    touch(tmp_path / "metrics.csv")
    with pytest.raises(SettingError, match="holds a run already"):
        open_run(None, tmp_path, RECIPE)
    with pytest.raises(SettingError, match=r"other settings: b.c=\[1, 3\] \(was \[1, 2\]\), d=4 \(was nothing\)"):
        open_run("auto", tmp_path, {"a": 1, "b": {"c": [1, 3]}, "d": 4})
    start = open_run("auto", tmp_path, RECIPE)
    assert (start.checkpoint, start.finished) == (None, False)
    assert "from the start" in start.note
    touch(tmp_path / "result.json")
    assert open_run("auto", tmp_path, RECIPE).finished
    assert open_run(str(tmp_path), tmp_path, RECIPE).finished


def test_what_slurm_and_torchrun_start_again_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    mark_run(tmp_path, RECIPE)
    touch(tmp_path / "metrics.csv")
    assert "Goes on" in open_run(None, tmp_path, RECIPE).note
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    with pytest.raises(SettingError, match="holds a run already"):
        open_run(None, tmp_path, RECIPE)
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    mark_run(tmp_path, RECIPE)
    assert "Goes on" in open_run(None, tmp_path, RECIPE).note


def test_the_newest_unfinished_run_of_the_same_settings(tmp_path):
    folders = [tmp_path / name for name in ("old", "new", "other", "finished", "empty")]
    for folder, recipe in zip(folders[:4], (RECIPE, RECIPE, {"a": 2}, RECIPE), strict=True):
        folder.mkdir()
        mark_run(folder, recipe)
        time.sleep(0.01)
    touch(folders[3] / "result.json")
    assert find_unfinished(RECIPE, folders) == folders[1]
    assert find_unfinished({"a": 3}, folders) is None
    mark_run(folders[0], RECIPE)  # the older run went on, and is now the newest
    assert find_unfinished(RECIPE, folders) == folders[0]


def test_a_run_of_an_older_version_is_still_the_same_run(tmp_path):
    """Older versions kept suggestions inside the groups and knew fewer settings."""
    old = {"data": {"root": "x", "num_classes": None, "recipe": {"epochs": 2}}, "schedule": {"epochs": 2}}
    new = {"data": {"root": "x", "num_classes": None, "split": None}, "schedule": {"epochs": 2}}
    (tmp_path / "run.json").write_text(json.dumps({"id": "a", "launch": None, "recipe": old}))

    recipe = {**new, "suggested": {"epochs": 2}}
    assert find_unfinished(recipe, [tmp_path]) == tmp_path
    mark_run(tmp_path, recipe)
    assert read_mark(tmp_path)["id"] == "a"
    assert find_unfinished({**new, "data": {"root": "y"}}, [tmp_path]) is None


def test_a_run_that_goes_on_keeps_its_id(tmp_path):
    mark_run(tmp_path, RECIPE)
    first = read_mark(tmp_path)["id"]
    mark_run(tmp_path, json.loads(json.dumps(RECIPE)))
    assert read_mark(tmp_path)["id"] == first
    mark_run(tmp_path, {"a": 2})
    assert read_mark(tmp_path)["id"] != first


def _hold(folder, held) -> None:
    with claim(folder):
        held.set()
        time.sleep(600)


def test_two_runs_never_share_a_folder(tmp_path):
    fork = multiprocessing.get_context("fork")
    held = fork.Event()
    holder = fork.Process(target=_hold, args=(tmp_path, held))
    holder.start()
    try:
        assert held.wait(60)
        with pytest.raises(SettingError, match=f"in use by process {holder.pid} on"), claim(tmp_path):
            pass
    finally:
        holder.kill()
        holder.join()
    with claim(tmp_path):  # the lock of a killed process does not last
        pass


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": flip_a_bit,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:100_000]),
    "empty": lambda path: path.write_bytes(b""),
    "something else": lambda path: path.write_text("x" * 1000),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_not_taken(how, copy, caplog):
    checkpoints = copy / "checkpoints"
    DAMAGE[how](checkpoints / "last.ckpt")
    with pytest.raises(SettingError, match=r"last.ckpt is damaged .*takes the newest whole one"):
        open_run(str(checkpoints / "last.ckpt"), copy, read_mark(copy)["recipe"])
    assert newest_checkpoint(copy) == checkpoints / "previous.ckpt"
    assert "last.ckpt is damaged" in caplog.text
    for name in ("previous", "best"):
        DAMAGE[how](checkpoints / f"{name}.ckpt")
    with pytest.raises(SettingError, match="no other checkpoint"):
        newest_checkpoint(copy)


def test_goes_on_from_the_checkpoint_before_a_damaged_one(copy, whole):
    flip_a_bit(copy / "checkpoints" / "last.ckpt")
    ended = train(copy, checkpoint_every=1)
    assert list(unequal(outcome(ended), whole)) == []
    names = {path.name for path in (copy / "checkpoints").iterdir()}
    assert names == {"last.ckpt", "previous.ckpt", "best.ckpt", "damaged.ckpt"}
    assert newest_checkpoint(copy) == copy / "checkpoints" / "last.ckpt"


def test_an_earlier_checkpoint_by_its_path(copy, whole):
    ended = train(copy, resume=str(copy / "checkpoints" / "best.ckpt"), checkpoint_every=1)
    assert list(unequal(outcome(ended), whole)) == []


def test_a_moved_run_keeps_its_best(copy):
    trainer = train(copy)
    assert trainer.checkpoint_callback.best_model_path == str(copy / "checkpoints" / "best.ckpt")


def labels_of(step: int, global_batch: int, epoch: int = 1) -> list[int]:
    """Return the labels of the images of one optimiser step, from the order of the epoch alone."""
    data = soft.ImageDataModule("fake", img_size=32, num_classes=4, train_images=28, val_images=13, classes=4)
    data.setup("fit")
    sampler = EpochSampler(28, 1, global_batch, global_batch)
    sampler.set_epoch(epoch)
    images = [index for _, index in sampler][step * global_batch : (step + 1) * global_batch]
    return [int(data.sets.train[index][1]) for index in images]


def record_labels(seen: list) -> Hook:
    """Return a callback that keeps (optimiser steps so far, labels) of the first batch that is trained on."""
    return Hook(
        "on_train_batch_start", 1, lambda trainer, _, batch: seen.append((trainer.global_step, batch[1].tolist()))
    )


@pytest.mark.parametrize("what", ["checkpoints/last.ckpt", "."])
def test_other_settings_go_on_in_another_folder(what, copy, whole, tmp_path):
    seen = []
    trainer = train(
        tmp_path / "new", record_labels(seen), resume=str(copy / what), settings={"more": 1}, max_per_device=8
    )
    rows = (tmp_path / "new" / "metrics.csv").read_text().splitlines()
    assert rows[:7] == whole["metrics"].splitlines()[:7]
    assert trainer.global_step == 6
    assert len(rows) == len(whole["metrics"].splitlines())
    # The step that follows has the same images, in one pass instead of two.
    assert seen == [(5, labels_of(step=2, global_batch=8))]


def test_another_share_of_a_device_goes_on_in_the_same_folder(copy):
    recipe = read_mark(copy)["recipe"]
    start = open_run("auto", copy, {**recipe, "trainer": {**recipe["trainer"], "max_batch_per_device": 8}})
    assert start.checkpoint == copy / "checkpoints" / "last.ckpt"
    assert "trainer.max_batch_per_device=8 (was 4)" in start.note
    assert "Every step trains on the same images" in start.note


def test_new_rates_hold_from_the_next_step_on(copy, whole, tmp_path):
    train(tmp_path / "new", resume=str(copy), optimizer={"lr": 0.2})

    def rates(text):
        return [float(row["lr"]) for row in csv.DictReader(io.StringIO(text)) if row["lr"]]

    old, new = rates(whole["metrics"]), rates((tmp_path / "new" / "metrics.csv").read_text())
    assert new[:5] == old[:5]
    assert new[5:] == [pytest.approx(2 * old[5])]


def test_another_global_batch_goes_on_after_the_same_images(copy, tmp_path):
    seen = []
    trainer = train(tmp_path / "new", record_labels(seen), resume=str(copy), global_batch=4)
    # The stopped run had done two steps of 8 in its second epoch, which are four of seven steps of 4.
    assert seen == [(7 + 4, labels_of(step=4, global_batch=4))]
    assert trainer.global_step == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema_decay": 0.0}, "of another model"),
        ({"optimizer": {"opt": "adamw", "lr": 0.1, "layer_decay": 0.5}}, "other parameter groups"),
    ],
    ids=["average", "groups"],
)
def test_what_does_not_fit(changes, message, copy, tmp_path):
    with pytest.raises(SettingError, match=message):
        train(tmp_path / "new", resume=str(copy), settings={"other": 1}, **changes)


@pytest.mark.parametrize(
    ("trainer", "text"),
    [({"max_epochs": 1}, "schedule.epochs=1"), ({"max_epochs": 9, "max_steps": 5}, "trainer.max_steps=5")],
    ids=["epochs", "steps"],
)
def test_nothing_is_left_to_train(trainer, text, copy, tmp_path):
    with pytest.raises(
        SettingError, match=f"has done step 5 and epoch 1, so {text} leaves nothing to train.*checkpoint="
    ):
        open_run(str(copy), tmp_path / "new", {"trainer": trainer})
    assert "epoch 2" in open_run(str(copy), tmp_path / "new", {"trainer": {"max_epochs": 2, "max_steps": 6}}).note


def test_a_result_alone_is_a_run(tmp_path):
    """That is all there is of a run without callbacks and loggers."""
    mark_run(tmp_path, RECIPE)
    touch(tmp_path / "result.json")
    assert open_run("auto", tmp_path, RECIPE).finished
    with pytest.raises(SettingError, match="holds a run already"):
        open_run(None, tmp_path, {"a": 2})


def test_paths_that_are_none(tmp_path):
    with pytest.raises(SettingError, match="not a file or folder"):
        open_run("nowhere", tmp_path, RECIPE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="no checkpoint below"):
        open_run(str(tmp_path / "empty"), tmp_path, RECIPE)
    torch.save({"state_dict": {}}, tmp_path / "weights.pt")
    with pytest.raises(SettingError, match="holds no training to go on with"):
        open_run(str(tmp_path / "weights.pt"), tmp_path, RECIPE)
