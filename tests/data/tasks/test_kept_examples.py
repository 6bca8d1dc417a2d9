"""Examples that are kept on the disk are those that the task draws."""

import os
import pickle

import pytest
import torch

from cli.recorded import recorded_data
from soft.data.tasks.kept_examples import KeptExamples
from soft.data.tasks.listops import ListOps
from soft.data.tasks.pathfinder import Pathfinder
from soft.data.tasks.recall import Recall
from soft.errors import SettingError
from tests.data.tasks.test_task_datamodule import task

TASKS = {
    "recall": lambda size=6, seed=0: Recall(size, "val", seed, (4, 4), 3, 4, 10),
    "listops": lambda size=6, seed=0: ListOps(size, "train", seed, 4, 4, 3, 40),
    "pathfinder": lambda size=6, seed=0: Pathfinder(size, "train", seed, dashes=6, distractor_dashes=2),
}


def assert_same(found, expected):
    assert torch.equal(found[0], expected[0])
    assert found[0].dtype == expected[0].dtype
    assert found[1] == expected[1]


@pytest.mark.parametrize("name", TASKS)
def test_kept_examples_are_the_drawn_ones(name, tmp_path, monkeypatch):
    plain, kept = TASKS[name](), KeptExamples(TASKS[name](), tmp_path)
    for index in (3, 0, 5):
        assert_same(kept.example(index), plain.example(index))
    again = KeptExamples(TASKS[name](), tmp_path)
    assert again.file == kept.file
    monkeypatch.setattr(again.task, "draw", lambda rng: pytest.fail("an example was drawn a second time"))
    for index in (0, 3, 5):
        assert_same(again.example(index), plain.example(index))
    assert_same(pickle.loads(pickle.dumps(kept)).example(3), plain.example(3))


def test_a_damaged_example_is_drawn_again(tmp_path):
    plain, kept = TASKS["recall"](), KeptExamples(TASKS["recall"](), tmp_path)
    kept.example(2)
    kept._open["tokens"][2, 0, 0, 0] ^= 1
    assert_same(kept.example(2), plain.example(2))
    kept._open["label"][2] += 1
    assert_same(kept.example(2), plain.example(2))


def test_another_users_file_is_read_and_left_alone(tmp_path, monkeypatch):
    plain, kept = TASKS["recall"](), KeptExamples(TASKS["recall"](), tmp_path)
    kept.example(2)
    before, may = kept.file.read_bytes(), {os.R_OK: True, os.W_OK: False}
    monkeypatch.setattr(os, "access", lambda path, mode: may[mode])  # root may do anything
    other = KeptExamples(TASKS["recall"](), tmp_path)
    for index in (2, 4, 4):
        assert_same(other.example(index), plain.example(index))
    assert other._open.mode == "r"
    assert kept.file.read_bytes() == before
    may[os.R_OK] = False
    with pytest.raises(
        SettingError, match=r"cache=.* has a file of another user, recall-val-.* may not be read\. Choose"
    ):
        KeptExamples(TASKS["recall"](), tmp_path)


def test_other_examples_have_another_file(tmp_path):
    files = {KeptExamples(TASKS["recall"](size, seed), tmp_path).file for size in (6, 7) for seed in (0, 1)}
    files.add(KeptExamples(Recall(6, "test", 0, (4, 4), 3, 4, 10), tmp_path).file)
    files.add(KeptExamples(Recall(6, "val", 0, (4, 4), 3, 5, 10), tmp_path).file)
    assert len(files) == 6


def test_other_rounds_are_drawn(tmp_path):
    plain, kept = TASKS["recall"](), KeptExamples(TASKS["recall"](), tmp_path)
    kept.example(1)
    assert_same(kept.example(1, round=4), plain.example(1, round=4))
    with pytest.raises(IndexError):
        kept.example(6)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"cache=.*file cannot take the 0 MiB of 6 examples: .*other"):
        KeptExamples(TASKS["recall"](), tmp_path / "file")


def test_loaders_read_what_is_kept(tmp_path):
    data = {cache: task("pathfinder", cache=cache) for cache in (None, str(tmp_path / "cache"))}
    drawn, kept = (each.training_examples() for each in data.values())
    for index in range(3):
        assert torch.equal(drawn[0, index].pixels, kept[0, index].pixels)
        assert drawn[0, index].label == kept[0, index].label
    assert torch.equal(kept[7, 1].pixels, kept[0, 1].pixels)  # the same examples in every epoch
    fresh = task("recall", cache=str(tmp_path / "other")).training_examples()
    assert not torch.equal(fresh[0, 1].pixels, fresh[1, 1].pixels)


def test_a_checkpoint_does_not_say_where_to_write():
    target = "soft.data.tasks.task_datamodule.TaskDataModule"
    recorded = {"_target_": target, "dataset": "recall", "cache": "/etc"}
    assert recorded_data(recorded, {"cache": None}, "x.ckpt")["cache"] is None
    assert recorded_data(recorded, {"cache": "mine"}, "x.ckpt")["cache"] == "mine"


def test_a_folder_below_a_file_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"cache=.*file/x cannot be made, because .*file is a file"):
        task("pathfinder", cache=str(tmp_path / "file" / "x"))
    with pytest.raises(SettingError, match="cache=7 has to be a text"):
        task("pathfinder", cache=7)
