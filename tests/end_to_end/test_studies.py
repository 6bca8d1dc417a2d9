"""Studies, sweeps and searches as a user runs, kills and repeats them."""

import csv
import os
import subprocess
import sys
import time

import pytest

from tests.end_to_end.command import ROOT, run

QUICK = (
    "data=digits",
    "data.batch_size=256",
    "schedule.epochs=2",
    "schedule.warmup_epochs=0",
    "ema.validate_raw=false",
)
LANDMARKS = (
    "train.py",
    "-m",
    "experiments=landmarks",
    "scale=laptop",
    "model=soft_pico",
    "model.attention.num_landmarks=4,25,9",  # 25 landmarks are more than the third stage has tokens
    "seed=0,1",
    *QUICK,
)


def kill_after_first_result(*arguments, cwd, sweep):
    """Start a sweep, and send SIGKILL to its one process when a run has finished; return the results' times.

    Fails if a job of the sweep outlives it.
    """
    script, *rest = arguments
    with (cwd / "killed.log").open("w") as log:
        process = subprocess.Popen([sys.executable, ROOT / "src" / script, *rest], cwd=cwd, stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while not list(sweep.glob("*/result.json")):
            assert process.poll() is None, (cwd / "killed.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
        process.wait()
    while _writers(sweep):
        assert time.monotonic() < deadline, "the jobs outlived their sweep"
        time.sleep(0.1)
    return {path: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}


def _writers(sweep):
    """Return the ids of processes whose command line names the sweep's folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                found += [pid] if str(sweep) in file.read() else []
        except OSError:  # the process has ended meanwhile
            continue
    return found


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the jobs of a killed sweep run to their end")
def test_a_killed_study_goes_on_and_reports(tmp_path):
    sweep = tmp_path / "outputs" / "experiments" / "landmarks-laptop"
    before = kill_after_first_result(*LANDMARKS, cwd=tmp_path, sweep=sweep)
    assert len(before) < 8  # of ten jobs: two fail, and four are without attention or with softmax

    done = run(*LANDMARKS, cwd=tmp_path, expect=1)
    assert f"{len(before)} of 10 runs are finished already" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "8 of 10 runs finished" in done.stdout
    assert done.stderr.count("failed: ") == 2
    assert "num_landmarks=25 seed=1" in done.stderr
    assert "Traceback" not in done.stderr

    with (sweep / "report" / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    found = [(row["model.attention.num_landmarks"], row["seeds"]) for row in table]
    assert sorted(found) == [("", "0 1"), ("", "0 1"), ("4", "0 1"), ("9", "0 1")]
    for row in table:
        assert 5 < float(row["top1"]) <= 100
        assert float(row["images_per_second"]) > 0
        assert float(row["peak_memory"]) > 2**27
        assert float(row["params"]) > 1e6
    assert {path.suffix for path in (sweep / "report").iterdir()} == {".md", ".csv", ".tex", ".png", ".html"}
    assert "| landmarks m |" in done.stdout

    again = run(*LANDMARKS, "model.attention.num_landmarks=4,9", cwd=tmp_path)
    assert "8 of 8 runs are finished already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the jobs of a killed sweep run to their end")
def test_a_killed_search_goes_on(tmp_path):
    pytest.importorskip("optuna")
    import optuna

    search = ("train.py", "hparams_search=optuna", *QUICK, "hydra.sweeper.trials=3", "hydra.launcher.jobs=1")
    sweep = tmp_path / "outputs" / "search" / "soft_pico-digits"
    before = kill_after_first_result(*search, cwd=tmp_path, sweep=sweep)
    done = run(*search, cwd=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "of 3 trials are done already" in done.stdout
    assert "3 trials finished, 0 were given up, 0 failed" in done.stdout
    assert len(list(sweep.glob("*/result.json"))) == 3

    study = optuna.load_study(study_name=sweep.name, storage=f"sqlite:///{sweep / 'optuna.db'}")
    trials = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    # The first trial has the settings' own values.
    assert trials[0].params["model.attention.num_landmarks"] == 9
    assert trials[0].params["optimizer.lr"] == 0.016
    assert len(trials[0].intermediate_values) == 2
    assert study.best_value == max(trial.value for trial in trials)
    (command,) = [line for line in done.stdout.splitlines() if line.startswith("run it again: ")]
    assert f"optimizer.lr={study.best_params['optimizer.lr']}" in command
    assert "hparams_search" not in command

    refused = run(*search, "optimizer.opt=lamb", cwd=tmp_path, expect=2)
    assert "holds a search over other settings" in refused.stderr


def test_one_sweep_at_a_time_in_a_folder(tmp_path):
    import fcntl

    sweep = tmp_path / "sweep"
    sweep.mkdir()
    handle = os.open(sweep, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    done = run("train.py", "-m", "seed=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path, expect=2)
    os.close(handle)
    assert "A sweep is running in" in done.stderr


@pytest.mark.slow
def test_a_study_evaluates_what_it_trained(tmp_path):
    study = (
        *("train.py", "-m", "experiments=iterations_at_evaluation", "scale=laptop", "model/attention=soft", "seed=0"),
        *("data.train_examples=128", "data.val_examples=64", "schedule.epochs=2", "hydra.sweep.dir=sweep"),
        *("study.evaluate={model.attention.newton_iters:[1,20]}", "hydra.launcher.jobs=1"),
    )
    done = run(*study, cwd=tmp_path)
    assert "evaluation of run 0 (1 of 1): model.attention.newton_iters=1,20" in done.stdout
    with (tmp_path / "sweep" / "report" / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["evaluation.model.attention.newton_iters"] for row in table] == ["1", "20"]
    evaluations = tmp_path / "sweep" / "0" / "evaluations"
    with (evaluations / "evaluations.csv").open(newline="") as file:
        assert [row["model.attention.newton_iters"] for row in csv.DictReader(file)] == ["1", "20"]
    assert "| model.attention.newton_iters | top-1 (%) |" in (evaluations / "console.log").read_text()

    again = run(*study, cwd=tmp_path)
    assert "1 of 1 runs are finished already" in again.stdout
    assert "evaluation of run" not in again.stdout
