"""Which folder a command that goes on runs in."""

import sys

import pytest
from omegaconf import OmegaConf

from cli.command_line import quote
from cli.run_folder import compose, find_folder
from soft.runs.folder import mark_run

FORMER = ["model.attention.landmark_gain=1.0", "model.attention.global_scale=null"]


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Return a function that writes the mark of a run of some words, as its start does."""
    monkeypatch.chdir(tmp_path)

    def begin(*words):
        folder = tmp_path / "outputs" / "soft_pico-digits" / "run"
        folder.mkdir(parents=True)
        mark_run(folder, OmegaConf.to_container(compose("train", words), resolve=True))
        return folder

    return begin


def added(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    find_folder("train")
    return sys.argv[1 + len(words) :]


@pytest.mark.parametrize("resume", ["auto", "outputs/soft_pico-digits/run"])
def test_a_run_from_before_soft_pico_had_its_start_goes_on_with_the_former_one(begin, monkeypatch, resume):
    folder = begin("seed=3", *FORMER)
    assert added(monkeypatch, "seed=3", f"resume={resume}") == [*FORMER, f"hydra.run.dir={quote(folder)}"]
    typed = "model.attention.landmark_gain=1"
    assert added(monkeypatch, "seed=3", typed, f"resume={resume}") == [FORMER[1], f"hydra.run.dir={quote(folder)}"]
    assert added(monkeypatch, "seed=4", f"resume={resume}") == []
    assert added(monkeypatch, "seed=3", "model.attention.landmark_gain=0.5", f"resume={resume}") == []


def test_a_run_of_now_goes_on_as_it_is(begin, monkeypatch):
    folder = begin("seed=3")
    assert added(monkeypatch, "seed=3", "resume=auto") == [f"hydra.run.dir={quote(folder)}"]
    assert added(monkeypatch, "seed=3", "model/attention=softmax", "resume=auto") == []
    assert added(monkeypatch, "seed=3", "data=fake", "model=soft_tiny", "resume=auto") == []


def test_a_run_is_found_by_any_way_to_its_folder(begin, monkeypatch):
    folder = begin("seed=3")
    (folder.parent / "other").mkdir()
    word = "resume=outputs/soft_pico-digits/other/../run"
    assert added(monkeypatch, "seed=3", word) == [f"hydra.run.dir={quote(folder)}"]


def test_a_mark_that_is_cut_short_is_no_run(begin, monkeypatch):
    folder = begin("seed=3")
    (folder / "run.json").write_text("")
    assert added(monkeypatch, "seed=3", f"resume={folder}") == []


def test_a_name_may_be_a_number(begin, monkeypatch):
    begin("seed=3")
    assert added(monkeypatch, "name=2024", "resume=auto") == []
