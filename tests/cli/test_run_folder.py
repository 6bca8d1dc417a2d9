"""Which folder a command that goes on runs in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from cli.command_line import quote, search_path_word
from cli.places import SOURCES
from cli.recorded import own_words, training_command
from cli.run_folder import compose, find_folder
from soft.runs.folder import claim, mark_run

# What a command does that was refused, as a process of its own.
REMOVE = "import sys; from pathlib import Path; from cli.run_folder import remove_refused as r; r(Path(sys.argv[1]), 0)"
FORMER = ["model.attention.landmark_gain=1.0", "model.attention.global_scale=null"]


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Return a function that writes the mark of a run of some words, as its start does."""
    monkeypatch.chdir(tmp_path)

    def begin(*words, name="run"):
        folder = tmp_path / "outputs" / "soft_pico-digits" / name
        folder.mkdir(parents=True)
        mark_run(folder, OmegaConf.to_container(compose("train", words), resolve=True))
        return folder

    return begin


def record(folder, *words, places=(), job="train"):
    """Write what Hydra records of a command."""
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(words)))
    hydra = {"hydra": {"job": {"name": job}, "overrides": {"hydra": list(places)}}}
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))


def whole_line(monkeypatch, *words):
    """Return the words of a command after `find_folder`."""
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    find_folder("train")
    return sys.argv[1:]


def added(monkeypatch, *words):
    return whole_line(monkeypatch, *words)[len(words) :]


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


WORDS = ("optimizer.lr=0.3", "model/attention=softmax", "checkpoint='w.ckpt'", "seed=3")


def test_the_words_of_a_run_hold_again(begin, monkeypatch, capsys):
    folder = begin(*WORDS)
    record(folder, *WORDS, "resume=auto", "output_dir=run")
    here = f"hydra.run.dir={quote(folder)}"
    assert whole_line(monkeypatch, f"resume={folder}") == [f"resume={folder}", *WORDS, here]
    assert "That run's settings hold where no others are typed: optimizer.lr=0.3" in capsys.readouterr().out
    assert whole_line(monkeypatch, *WORDS, f"resume={folder}") == [*WORDS, f"resume={folder}", here]
    assert not capsys.readouterr().out


def test_typed_words_go_on_in_another_folder(begin, monkeypatch):
    """There the weights that the run began with are those of its checkpoint."""
    folder = begin(*WORDS)
    record(folder, *WORDS)
    rest = [WORDS[1], WORDS[3]]
    typed = ["optimizer.lr=1", f"resume={folder}"]
    assert whole_line(monkeypatch, *typed) == [*typed, *rest]
    for named in (["hydra.run.dir=other"], ["--config-name", "train", "output_dir=other"]):  # as a sweep's job is
        assert whole_line(monkeypatch, f"resume={folder}", *named) == [f"resume={folder}", *named]


def test_the_words_in_the_mark_count(begin, monkeypatch):
    """Hydra writes its own record before a command is refused, so that the folder of a run may have another's words."""
    folder = begin("seed=3")
    mark_run(folder, json.loads((folder / "run.json").read_text())["recipe"], ["seed=3"])
    record(folder, "optimizer.lr=0.5")
    assert whole_line(monkeypatch, f"resume={folder}")[1:] == ["seed=3", f"hydra.run.dir={quote(folder)}"]


def test_own_words(monkeypatch):
    place = search_path_word(["file:///mine"])
    words = ["--config-name", "train", "hydra.run.dir=x", "resume='a'", "output_dir=b", "+data.x=1", place, "~logger"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    assert own_words() == [place, "resume='a'", "output_dir=b", "+data.x=1", "~logger"]


def test_a_run_of_a_study_goes_on_by_itself(begin, monkeypatch):
    words = ["experiments=landmarks", "scale=laptop", "model/attention=soft", "seed=1"]
    folder = begin(*words)
    record(folder, *words)
    line = whole_line(monkeypatch, f"resume={folder}")
    assert line[1:] == [*words, f"hydra.run.dir={quote(folder)}", "hydra.mode=RUN"]


def test_settings_of_another_option_of_a_group_are_not_taken_over(begin, monkeypatch):
    words = ["optimizer.betas=[0.8,0.9]", "seed=5"]
    record(begin(*words), *words)
    typed = [f"resume={next(Path('outputs').glob('*/run'))}", "optimizer=sgd"]
    assert whole_line(monkeypatch, *typed) == [*typed, "seed=5"]


def test_words_that_cannot_hold_again(begin, monkeypatch, capsys):
    folder = begin("seed=3")
    record(folder, "seed=3", "a_setting_of_before=1")
    assert whole_line(monkeypatch, f"resume={folder}")[:1] == [f"resume={folder}"]
    assert "do not fit any more, and are not taken over: seed=3 a_setting" in capsys.readouterr().out
    record(begin("seed=4", name="of_evaluate"), "seed=4", job="evaluate")
    assert whole_line(monkeypatch, f"resume={folder.parent / 'of_evaluate'}")[1:] == []


def test_the_config_folder_of_a_run_holds_again(begin, monkeypatch, tmp_path):
    (tmp_path / "mine" / "trainer").mkdir(parents=True)
    (tmp_path / "mine" / "trainer" / "lab.yaml").write_text("defaults: [auto, _self_]\n")
    place = search_path_word([f"file://{tmp_path / 'mine'}"])
    folder = begin(place, "trainer=lab")
    record(folder, "trainer=lab", places=[place])
    assert whole_line(monkeypatch, f"resume={folder}")[1:3] == [place, "trainer=lab"]
    assert training_command(str(folder)) == f"python src/train.py --config-dir={tmp_path / 'mine'} trainer=lab"


def test_another_process_keeps_its_folder(tmp_path):
    folder = tmp_path / "run"
    with claim(folder):
        reader = subprocess.run([sys.executable, "-c", REMOVE, folder], cwd=SOURCES, timeout=60, check=True)
        assert reader.returncode == 0
        assert folder.is_dir()
    subprocess.run([sys.executable, "-c", REMOVE, folder], cwd=SOURCES, timeout=60, check=True)
    assert not folder.exists()


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
