"""Runs that another study has finished are taken over where they are the same."""

import json
import os

import pytest
import yaml
from omegaconf import OmegaConf

from hydra_plugins import other_studies
from hydra_plugins.other_studies import OtherStudies, take_over
from soft.runs.identity import FORMAT, identity

HERE = {"commit": "abc123", "torch": "2.14.1", "device": "a processor"}
RECIPE = {"seed": 0, "model": {"m": 4}, "study": {"name": "other"}}


def config(**study):
    return OmegaConf.create({"study": {"name": "mine", "scale": "laptop", "take_over": True, **study}})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of another study, with a checkpoint and evaluations."""
    monkeypatch.setattr(other_studies, "_here", lambda: dict(HERE))
    study = tmp_path / "other-laptop"
    folder = study / "3"
    (folder / ".hydra").mkdir(parents=True)
    (study / "multirun.yaml").touch()
    (folder / "config.yaml").write_text(yaml.safe_dump({**RECIPE, "output_dir": str(folder)}))
    (folder / "run.json").write_text(json.dumps({"format": FORMAT, "recipe": RECIPE}))
    (folder / "result.json").write_text(json.dumps({"top1": 90.0, "environment": HERE}))
    (folder / ".hydra" / "overrides.yaml").write_text("- model.m=4\n")
    for path in ("checkpoints/best.ckpt", "evaluations/0/evaluation.json", ".lock"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    return folder


def find(run, recipe=RECIPE, **study):
    sweep = run.parent.parent / "mine-laptop"
    return OtherStudies(sweep, config(**study)).find(identity(recipe))


def test_the_same_run_is_found(run):
    assert find(run) == run
    assert find(run, {**RECIPE, "study": {"name": "mine"}, "output_dir": "elsewhere"}) == run
    assert find(run, {**RECIPE, "seed": 1}) is None
    assert find(run, take_over=False) is None
    assert find(run, scale="paper") is None


@pytest.mark.parametrize("key", HERE)
def test_a_run_of_other_code_or_on_another_device_is_none_of_ours(run, key, monkeypatch):
    monkeypatch.setattr(other_studies, "_here", lambda: HERE | {key: "another"})
    assert find(run) is None


@pytest.mark.parametrize("commit", ["abc123-dirty", None])
def test_code_without_a_name_takes_nothing_over(run, commit, monkeypatch):
    here = HERE | {"commit": commit}
    monkeypatch.setattr(other_studies, "_here", lambda: here)
    (run / "result.json").write_text(json.dumps({"top1": 90.0, "environment": here}))
    assert find(run) is None


def test_an_unfinished_run_is_not_taken_over(run):
    (run / "result.json").unlink()
    assert find(run) is None


def test_a_study_does_not_look_into_its_own_folder(run):
    assert OtherStudies(run.parent, config()).find(identity(RECIPE)) is None


def test_a_sweep_without_a_study_takes_nothing_over(run):
    assert OtherStudies(run.parent.parent / "mine-laptop", OmegaConf.create({})).find(identity(RECIPE)) is None


def test_what_is_taken_over_belongs_to_this_study(run, tmp_path):
    folder = tmp_path / "mine-laptop" / "0"
    folder.parent.mkdir()
    take_over(run, folder, config(title="Mine"), ["model.m=4", "seed=0"])
    recipe = yaml.safe_load((folder / "config.yaml").read_text())
    assert recipe["study"] == {"name": "mine", "scale": "laptop", "take_over": True, "title": "Mine"}
    assert recipe["output_dir"] == str(folder)
    assert recipe["model"] == {"m": 4}
    assert yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text()) == ["model.m=4", "seed=0"]
    assert json.loads((folder / "result.json").read_text())["top1"] == 90.0
    assert os.path.samefile(folder / "checkpoints" / "best.ckpt", run / "checkpoints" / "best.ckpt")
    assert not (folder / "evaluations").exists()
    assert not (folder / ".lock").exists()
    assert yaml.safe_load((run / "config.yaml").read_text())["study"] == {"name": "other"}  # the original stays
