"""Runs that are killed, stopped or requeued, or that fail, go on exactly where they were."""

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.end_to_end.command import ROOT, read_csv, run, run_here, values
from tests.end_to_end.fork_server import Forked
from tests.end_to_end.kill_runs import (
    SETTINGS,
    SHORT,
    differences,
    end,
    kill_until_done,
    run_folder,
    start,
    wait_for_training,
)

# A run that is long enough to be stopped in the middle.
LONG = (
    *("data=fake", "data.train_images=64", "data.val_images=20", "data.batch_size=8", "schedule.epochs=1000"),
    *("trainer.log_every_n_steps=1", "~callbacks.curves"),
)
QUICKER = ("one process", "two processes, average")  # the names in SETTINGS that are tested more often
TINY = ("data=fake", "data.train_images=32", "data.val_images=20", "data.batch_size=16", "schedule.epochs=2")


@pytest.fixture
def running(tmp_path):
    """Yield a function that starts `python src/train.py LONG ...` in `tmp_path` and waits until it trains.

    Processes that are left at the end of the test are killed.
    """
    started = []

    def begin(*arguments: str, wait: bool = True, **variables: str) -> Forked:
        began = time.time()
        process = start(*LONG, *arguments, cwd=tmp_path, **variables)
        started.append(process)
        assert not wait or wait_for_training(process, tmp_path, began), screen(tmp_path)
        return process

    yield begin
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.wait()


def saved(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def screen(cwd: Path) -> str:
    return (cwd / "log").read_text()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in QUICKER else pytest.mark.long) for name in SETTINGS]
)
def test_killed_and_resumed(name, tmp_path):
    """All processes get SIGKILL once; SOFT_TEST_KILLS and SOFT_TEST_SEED set how often and when."""
    kills, seed = int(os.environ.get("SOFT_TEST_KILLS", 1)), int(os.environ.get("SOFT_TEST_SEED", 0))
    for folder in ("alone", "killed"):
        (tmp_path / folder).mkdir()
    assert start(*SHORT, *SETTINGS[name], cwd=tmp_path / "alone").wait() == 0, screen(tmp_path / "alone")
    kill_until_done((*SHORT, *SETTINGS[name]), tmp_path / "killed", kills, random.Random(f"{name} {seed}"))
    assert list(differences(run_folder(tmp_path / "killed"), run_folder(tmp_path / "alone"))) == []


@pytest.mark.slow
def test_terminated(running, tmp_path):
    process = running()
    assert end(process, signal.SIGTERM) == 143
    folder = run_folder(tmp_path)
    last = int(read_csv(folder)[-1]["step"])
    assert saved(folder)["global_step"] == last + 1  # the step that was running was finished
    assert f"Stopped by SIGTERM. resume={folder.relative_to(tmp_path)} goes on" in screen(tmp_path)
    assert "Traceback" not in screen(tmp_path)

    running("resume=auto")
    assert [int(row["step"]) for row in read_csv(folder) if row["lr"]][: last + 2] == list(range(last + 2))
    again = start(*LONG, "resume=auto", cwd=tmp_path)
    assert again.wait(timeout=300) == 2
    assert "is in use by process" in screen(tmp_path)


def until(condition, process, seconds: float = 120) -> None:
    """Wait until `condition()` is true, while `process` runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_interrupted_twice(running, tmp_path):
    """On the second signal the run does not wait for the end of the step."""
    process = running("+callbacks.poison._target_=tests.end_to_end.poison.Slow", wait=False, PYTHONPATH=str(ROOT))
    until((tmp_path / "sleeping").exists, process)
    process.send_signal(signal.SIGINT)
    until(lambda: "SIGINT: stopping" in screen(tmp_path), process)
    assert process.poll() is None
    assert "SIGINT: stopping after this step, with a checkpoint. Again: stop now." in screen(tmp_path)
    assert end(process, signal.SIGINT) == 130
    assert not (run_folder(tmp_path) / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False], ids=["all processes", "the first one"])
def test_two_processes_terminated(group, running, tmp_path):
    """Lightning's own handlers would wait for each other for ever when all processes get the signal."""
    process = running("trainer=cpu_ddp")
    assert end(process, signal.SIGTERM, group) == 143
    folder = run_folder(tmp_path)
    assert saved(folder)["global_step"] == int(read_csv(folder)[-1]["step"]) + 1
    for _ in range(100):  # the other process ends too
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.2)
    else:
        pytest.fail("a process is left")


@pytest.mark.parametrize("moment", ["at once", "with its folder"])
def test_terminated_while_it_starts(moment, running, tmp_path):
    process = running(wait=False)
    if moment == "with its folder":
        until(lambda: list(tmp_path.glob("outputs/*/*/.hydra")), process)
    assert end(process, signal.SIGTERM) in (143, -signal.SIGTERM)
    assert "Traceback" not in screen(tmp_path)


@pytest.mark.slow
def test_slurm_requeues_and_the_run_goes_on(running, tmp_path):
    """A script in place of scontrol writes down what it is asked for."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "12", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    process = running("logger=wandb", **job)
    assert end(process, signal.SIGUSR1) == 138
    assert (tmp_path / "asked").read_text() == "requeue 12\n"
    folder = run_folder(tmp_path)
    stopped_at = saved(folder)["global_step"]

    # Only the same command in the same job shows that the run is to go on.
    process = running("logger=wandb", SLURM_RESTART_COUNT="1", **job)
    assert end(process, signal.SIGTERM) == 143
    steps = [int(row["step"]) for row in read_csv(run_folder(tmp_path)) if row["lr"]]
    assert steps == list(range(len(steps)))
    assert len(steps) > stopped_at
    assert (tmp_path / "asked").read_text() == "requeue 12\n"  # a terminated run is not requeued
    (name,) = {path.name.rpartition("-")[2] for path in (folder / "wandb").glob("offline-run-*-*")}
    assert name == json.loads((folder / "run.json").read_text())["id"]


@pytest.mark.slow
def test_finished_runs_say_so(tmp_path):
    first = run_here("train.py", *TINY, cwd=tmp_path)
    folder = run_folder(tmp_path)
    assert "Note: There is nothing" not in first.stdout
    again = run_here("train.py", *TINY, f"resume={folder.relative_to(tmp_path)}", cwd=tmp_path)
    assert "holds this run, and it is finished" in again.stdout
    taken = run_here("train.py", *TINY, f"hydra.run.dir={folder}", cwd=tmp_path, expect=2)
    assert "holds a run already" in taken.stderr

    more = run_here("train.py", *TINY, "schedule.epochs=3", f"resume={folder}", "hydra.run.dir=more", cwd=tmp_path)
    assert "in a folder of its own, because these settings differ:" in more.stdout
    assert "schedule.epochs=3 (was 2)" in more.stdout
    assert [int(row["step"]) for row in read_csv(tmp_path / "more") if row["train/loss_epoch"]] == [1, 3, 5]


@pytest.mark.slow
def test_one_rank_cannot_take_a_step(tmp_path):
    """A NaN on one rank makes both ranks skip the step, and both go on with the same weights."""
    arguments = ("train.py", *TINY, "trainer=cpu_ddp", "trainer.log_every_n_steps=1", "schedule.epochs=3")
    poison = ("+callbacks.poison._target_=tests.end_to_end.poison.Poison", "+callbacks.poison.rank=1")
    skipped = ("+callbacks.poison.step=2", "hydra.run.dir=skipped")
    run(*arguments, *poison, *skipped, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert values(read_csv(tmp_path / "skipped"), "skipped_steps") == [0, 0, 1, 1, 1, 1]
    assert all(value.isfinite().all() for value in saved(tmp_path / "skipped")["state_dict"].values())

    ended = ("+callbacks.poison.step=3", "+callbacks.poison.steps=9", "max_nonfinite_steps=2", "hydra.run.dir=ended")
    done = run(*arguments, *poison, *ended, cwd=tmp_path, expect=1, PYTHONPATH=str(ROOT))
    assert "ERROR: Stopped at epoch 3, batch 1: loss or gradient was not finite" in done.stderr
    assert "The images are not finite already." in done.stderr
    assert "nonfinite_rank1.pt" in done.stderr
    assert "Traceback" not in done.stderr
    for rank in (0, 1):
        content = torch.load(tmp_path / "ended" / f"nonfinite_rank{rank}.pt", weights_only=True)
        assert content["images"].isnan().any() == bool(rank)


@pytest.mark.slow
def test_full_disk(tmp_path):
    """On a real full disk the last checkpoint is whole, the error says what to do, and with more room the run ends."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=56m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        arguments = ("train.py", *TINY, "schedule.epochs=4", "hydra.run.dir=disk/run")
        done = run(*arguments, cwd=tmp_path, expect=1)
        (message,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        assert re.match(r"ERROR: \S+\.ckpt was not written: the disk is full \(\d+ MiB are free", message)
        assert "Traceback" not in done.stderr
        epoch = saved(disk / "run")["epoch"]
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        done = run(*arguments, "resume=auto", cwd=tmp_path)
        assert f"Goes on in disk/run from epoch {epoch + 1}" in done.stdout
        assert saved(disk / "run")["global_step"] == 8
    finally:
        subprocess.run(["umount", str(disk)], check=True)
