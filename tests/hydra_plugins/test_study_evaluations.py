"""Which runs of a study are evaluated, and with which command."""

import sys

import hydra
import pytest
from omegaconf import OmegaConf

from cli.command_line import ConfigError
from cli.entry import SOURCES
from hydra_plugins import study_evaluations as evaluating
from hydra_plugins.study_evaluations import asked_evaluations, evaluate_runs
from tests.studies.sweeps import write_run
from tests.studies.test_evaluations import STUDY, T, write_evaluation

REPOSITORY = SOURCES.parent


def config_with(evaluate):
    return OmegaConf.create(
        {
            "study": {**STUDY, "evaluate": evaluate},
            "hydra": {
                "runtime": {"choices": {"trainer": "cpu"}},
                "launcher": {"jobs": 2},
                "overrides": {"hydra": ["hydra.sweep.dir=mine", "hydra.verbose=true"]},
            },
        }
    )


def evaluate(sweep, asked):
    return evaluate_runs(sweep, config_with(asked), asked)


@pytest.fixture
def commands(monkeypatch):
    """The commands that would have been started."""
    started = []
    monkeypatch.setattr(evaluating, "run_tree", lambda command, **_: started.append(command) or 0)
    return started


def test_runs_without_evaluations_are_evaluated(tmp_path, commands):
    for number in (0, 1):
        write_run(tmp_path / str(number), 95.0, number, STUDY)
        (tmp_path / str(number) / "checkpoints").mkdir()
        (tmp_path / str(number) / "checkpoints" / "best.ckpt").touch()
    write_run(tmp_path / "2", 10.0, 0, STUDY, model__attention={"attention": "none"})
    write_evaluation(tmp_path / "1", 0, 40.0, f"{T}=1")
    write_evaluation(tmp_path / "1", 1, 90.0, f"{T}=20")

    assert evaluate(tmp_path, {T: [1, 20]})
    (command,) = commands
    assert command[:3] == [sys.executable, str(SOURCES / "evaluate.py"), "-m"]
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = hydra.compose("evaluate", [word for word in command[3:] if "1,20" not in word], return_hydra_config=True)
    assert cfg.checkpoint == str(tmp_path / "0" / "checkpoints" / "best.ckpt")
    assert cfg.hydra.sweep.dir == str(tmp_path / "0" / "evaluations")
    assert cfg.hydra.verbose  # typed for the study
    assert (cfg.details, cfg.hydra.launcher.jobs) == (False, 2)
    assert f"{T}=1,20" in command


def test_a_run_without_checkpoints_is_said(tmp_path, commands, capsys):
    write_run(tmp_path / "0", 95.0, 0, STUDY)
    evaluate(tmp_path, {T: [1, 20]})
    assert commands == []
    assert "run 0 keeps no checkpoint to evaluate" in capsys.readouterr().out


def test_a_failed_evaluation_is_said(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "0", 95.0, 0, STUDY)
    (tmp_path / "0" / "checkpoints").mkdir()
    (tmp_path / "0" / "checkpoints" / "last.ckpt").touch()
    monkeypatch.setattr(evaluating, "run_tree", lambda command, **_: 1)
    assert not evaluate(tmp_path, {T: [1, 20]})
    assert "failed: the evaluation of run 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("evaluate", "says"),
    [
        ({"model.attention.newton_itres": [1]}, "model.attention.newton_itres is no setting of src/evaluate.py"),
        ({T: 5}, "has to be settings and lists of their values"),
        ([T], "has to be settings and lists of their values"),
    ],
)
def test_a_wrong_entry_is_refused(evaluate, says):
    with pytest.raises(ConfigError, match=says):
        asked_evaluations(config_with(evaluate))


def test_a_sweep_without_a_study_asks_for_none():
    assert asked_evaluations(OmegaConf.create({"seed": 0})) == {}
