"""Which jobs of a sweep run, and what it ends with."""

import os
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode

import cli.entry  # noqa: F401 - registers resolvers of the configuration
from cli.places import CONFIG_DIR
from hydra_plugins import missing_runs
from hydra_plugins.sweep_folder import evaluations_in
from tests.invoke import invoke
from tests.studies.test_evaluation_table import write


@pytest.fixture
def reported(monkeypatch):
    """The commands of reports that would have been started."""
    commands = []
    monkeypatch.setattr(missing_runs.subprocess, "run", lambda command, **_: commands.append(command))
    return commands


class Recorder:
    """Launcher that runs nothing; `jobs` are the words of the jobs that it was given."""

    def launch(self, jobs, initial_job_idx):
        self.jobs = [list(job) for job in jobs]
        return [JobReturn(overrides=job, working_dir="cwd", status=JobStatus.COMPLETED) for job in self.jobs]


def run(sweep, *jobs, command="train"):
    """Return what a sweep of `jobs` in the folder `sweep` launches, without words on folders, and its results."""
    launcher = Recorder()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration(command, [f"hydra.sweep.dir={sweep}"], run_mode=RunMode.MULTIRUN)
        results = missing_runs.run_missing(launcher, SimpleNamespace(config_loader=loader), config, jobs)
    return [job[:-1] for job in getattr(launcher, "jobs", [])], results


def test_each_run_to_go_on_from_is_a_job(tmp_path, capsys):
    jobs = [["resume=r5", "seed=5"], ["resume=r6", "seed=5"]]
    launched, results = run(tmp_path, *jobs)
    assert launched == jobs
    assert [result.working_dir for result in results] == [str(tmp_path / "0"), str(tmp_path / "1")]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [("name=a", "name=b"), ("logger=csv", "logger=none")])
def test_jobs_that_compute_the_same_run_once_and_are_named(tmp_path, capsys, reported, words):
    jobs = [[word, f"seed={seed}"] for seed in (0, 1) for word in words]
    launched, results = run(tmp_path, *jobs)
    assert launched == [jobs[0], jobs[2]]
    text = f"2 jobs compute the same as another and are not repeated: {words[1]} seed=0; {words[1]} seed=1"
    assert capsys.readouterr().out.strip() == text
    for result in results:
        result.return_value = 1.0
    missing_runs.finish(tmp_path, results)
    assert f"2 of 2 runs finished, in {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["output_dir=one", "hydra.run.dir=one"])
def test_one_folder_for_all_jobs_is_refused_in_every_sweep(tmp_path, word):
    for script, *words in (
        ("train.py", "-m", "seed=0,1"),
        ("evaluate.py", "-m", "checkpoint=a.ckpt", "weights=ema,raw"),
        ("predict.py", "-m", "checkpoint=a.ckpt,b.ckpt", "images=a.png"),
        ("train.py", "experiments=landmarks"),
        ("train.py", "hparams_search=optuna"),
    ):
        done = invoke(script, *words, word, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{word} would be one folder for all jobs of this sweep; use hydra.sweep.dir" in done.stderr
    done = invoke("train.py", "-m", "seed=0,1", "hydra.output_subdir=null", cwd=tmp_path)
    assert "hydra.output_subdir=null has no place in a sweep" in done.stderr
    assert not list(tmp_path.rglob("multirun.yaml")) + list(tmp_path.rglob("0"))


def evaluate(sweep, checkpoint):
    """Run the jobs of a sweep of two evaluations, which are done at once, and return those that were launched."""
    jobs = [[f"checkpoint={checkpoint}", f"weights={weights}"] for weights in ("ema", "raw")]
    launched, results = run(sweep, *jobs, command="evaluate")
    for result in results:
        if not (folder := Path(result.working_dir)).exists():
            write(folder, 50.0)
            (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(result.overrides[:-1]))
            (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"cwd": os.getcwd()}}}))
        result.return_value = 1.0
    missing_runs.finish(sweep, results)
    return launched


def test_a_second_sweep_of_evaluations_leaves_the_first(tmp_path, capsys):
    for name in "AB":
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
        assert len(evaluate(tmp_path / "sweep", tmp_path / name)) == 2
        first = (tmp_path / "sweep" / "0" / "evaluation.json").stat().st_mtime_ns
    table = capsys.readouterr().out
    assert f"| {tmp_path / 'A'}" in table
    assert [path.name for path in evaluations_in(tmp_path / "sweep")] == ["0", "1", "2", "3"]
    assert len((tmp_path / "sweep" / "evaluations.csv").read_text().splitlines()) == 5

    assert evaluate(tmp_path / "sweep", tmp_path / "A") == []
    assert "2 of 2 runs are finished already" in capsys.readouterr().out
    (tmp_path / "A").write_text("trained anew")
    os.utime(tmp_path / "A", (2**33, 2**33))
    assert len(evaluate(tmp_path / "sweep", tmp_path / "A")) == 2
    assert (tmp_path / "sweep" / "0" / "evaluation.json").stat().st_mtime_ns == first


def test_an_evaluation_that_was_stopped_starts_anew_in_its_place(tmp_path):
    (tmp_path / "sweep" / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "sweep" / "0" / "evaluate.log").touch()
    (tmp_path / "A").touch()
    assert len(evaluate(tmp_path / "sweep", tmp_path / "A")) == 2
    assert [path.name for path in evaluations_in(tmp_path / "sweep")] == ["0", "1"]
    assert not (tmp_path / "sweep" / "0" / "evaluate.log").exists()


def finish(sweep, *folders):
    results = [JobReturn(overrides=[], working_dir=str(folder), status=JobStatus.COMPLETED) for folder in folders]
    for result in results:
        result.return_value = 1.0
    missing_runs.finish(sweep, results)


def test_a_sweep_of_evaluations_ends_with_their_table(tmp_path, reported, capsys):
    folder = write(tmp_path / "0", 50.0, "weights=raw")
    finish(tmp_path, folder, folder)  # two jobs that compute the same have one folder
    assert capsys.readouterr().out.count("| 50.00") == 1
    assert not reported


def test_a_sweep_of_trainings_ends_with_a_report_even_if_they_were_evaluated_in_their_folders(tmp_path, reported):
    folder = write(tmp_path / "0", 50.0)
    (folder / "result.json").write_text("{}")
    finish(tmp_path, folder)
    assert len(reported) == 1
    assert not (tmp_path / "evaluations.csv").exists()
