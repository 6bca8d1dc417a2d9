"""Runs of several processes: on Lightning's launcher, under torchrun, and as jobs of a sweep."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.end_to_end.command import TORCHRUN, command, environment, read_csv, run, run_fresh, values
from tests.end_to_end.kill_runs import run_folder

TINY = (
    "data=fake",
    "data.train_images=64",
    "data.val_images=21",
    "data.batch_size=16",
    "schedule.epochs=2",
    "trainer=cpu_ddp",
    "trainer.log_every_n_steps=1",
)
FAULT = "+callbacks.fault._target_=tests.end_to_end.faults.Fault"


def check_finished(folder, devices: int, steps: int = 8) -> None:
    """Check that a run's folder is complete, and that nothing was logged twice."""
    rows = read_csv(folder)
    assert [int(row["step"]) for row in rows if row["grad_norm"]] == list(range(steps))
    assert len(values(rows, "val/top1")) == 2
    assert json.loads((folder / "result.json").read_text())["facts"]["devices"] == devices
    assert {path.name for path in (folder / "checkpoints").iterdir()} >= {"best.ckpt", "last.ckpt"}


@pytest.mark.slow
def test_any_number_of_processes_follows_the_same_curve(tmp_path):
    """BatchNorm over the whole batch and float64 leave one difference: ranks add up numbers in another order.

    That changes the last of 16 digits, and ten steps lose two more. SGD trains here because Adam would divide the
    gradient of a bias before BatchNorm, which is nothing but rounding, by its own size.
    """
    names = ("train/loss", "grad_norm", "train/loss_epoch", "val/loss", "val_raw/loss")
    curves = []
    for devices in (1, 2, 4):
        run_fresh(
            "train.py",
            "data=digits",
            "schedule.epochs=1",
            "schedule.warmup_epochs=0",
            "optimizer=sgd",
            "optimizer.lr=3",
            "trainer=cpu_ddp",
            f"trainer.devices={devices}",
            "trainer.precision=64-true",
            "trainer.sync_batchnorm=true",
            "trainer.limit_train_batches=10",
            "trainer.log_every_n_steps=1",
            f"hydra.run.dir={devices}",
            cwd=tmp_path,
            OMP_NUM_THREADS="1",
        )
        rows = read_csv(tmp_path / str(devices))
        curves.append([values(rows, name) for name in names])
    assert [len(curve) for curve in curves[0]] == [10, 10, 1, 1, 1]
    assert curves[0][0][0] > 1.5 * curves[0][0][-1]  # the model does learn
    for other in curves[1:]:
        for name, ours, theirs in zip(names, other, curves[0], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-12), name


@pytest.mark.slow
def test_more_processes_than_cores(tmp_path):
    """SOFT_TEST_RANKS sets the number of processes; the paper's 32 take 20 GiB."""
    ranks = int(os.environ.get("SOFT_TEST_RANKS", 3))
    settings = ("trainer=cpu_ddp", f"trainer.devices={ranks}", "trainer.log_every_n_steps=1", "data=fake")
    images = (f"data.train_images={6 * ranks}", f"data.val_images={ranks + 1}", f"data.batch_size={2 * ranks}")
    length = ("schedule.epochs=1", "schedule.warmup_epochs=0", "hydra.run.dir=run")
    done = run_fresh("train.py", *settings, *images, *length, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert f"{2 * ranks} = {ranks} cpu x 2 per device x 1 accumulated" in done.stdout
    assert len(values(read_csv(tmp_path / "run"), "grad_norm")) == 3


@pytest.mark.long
def test_a_sweep_of_distributed_jobs_of_which_one_fails(tmp_path):
    """Three jobs of two processes; in one of them the second process fails, and the others do not notice."""
    done = run(
        "train.py",
        "-m",
        *TINY,
        FAULT,
        "+callbacks.fault.step=100,2,101",
        # Settings that DDP has to work with, besides averaged weights.
        "model.grad_checkpointing=true",
        "trainer.max_batch_per_device=4",
        "logger=wandb",
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
        expect=1,
    )
    sweep = tmp_path / "sweep"
    assert {path.name for path in sweep.iterdir()} == {"0", "1", "2", "multirun.yaml", "report"}
    for number in ("0", "2"):
        check_finished(sweep / number, devices=2)
    for number in ("0", "1", "2"):
        assert len(list((sweep / number).glob("wandb/offline-run-*"))) == 1
    assert len(values(read_csv(sweep / "1"), "grad_norm")) == 2
    assert not (sweep / "1" / "result.json").exists()
    assert "ERROR: rank 1: RuntimeError: a fault on rank 1\nTraceback" in done.stderr
    assert "a fault on rank 1" in (sweep / "1" / "train_rank1.log").read_text()
    assert done.stderr.count("Traceback") == 1
    assert f"failed: {sweep / '1'}" in done.stderr
    assert "2 of 3 runs finished" in done.stdout
    assert done.stdout.count("2 cpu x 4 per device x 2 accumulated") == 3  # each job prints one plan


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run(tmp_path, rank):
    start = time.monotonic()
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command(
                "train.py",
                *TINY,
                FAULT,
                f"+callbacks.fault.rank={rank}",
                "+callbacks.fault.how=kill",
                "+callbacks.fault.mark=fault",
                "hydra.run.dir=run",
            ),
            cwd=tmp_path,
            env=environment(),
            stderr=file,
            start_new_session=True,
        )
    code = process.wait(timeout=300)
    assert code == (1 if rank else -signal.SIGKILL)
    started = (tmp_path / "fault").stat().st_mtime
    wait_for(lambda: not _running_in_session(process.pid), 60, "a rank outlives the run")
    assert time.time() - started < 30, f"{time.monotonic() - start:.0f} s in all"
    if rank:
        assert "The process of rank 1 was killed (SIGKILL)" in log.read_text()
    assert "stopped, because another process of this run has ended" in log.read_text()
    assert "Traceback" not in log.read_text()


def _running_in_session(session: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True, check=False)
    return [state for state in listed.stdout.split() if not state.startswith("Z")]


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process and all its descendants, as if the machine were switched off."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    os.kill(pid, signal.SIGKILL)
    for child in listed.stdout.split():
        kill_tree(int(child))


def wait_for(condition, seconds: float, message: str) -> None:
    """Return when `condition()` is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.2)


@pytest.mark.long
def test_two_nodes_under_torchrun_of_which_one_dies(tmp_path):
    """The node that is left goes on by itself, in the same folder and with the same global batch."""
    options = ("--nnodes=1:2", "--nproc-per-node=2", "--max-restarts=2", "--rdzv-backend=c10d", "--rdzv-id=two")
    endpoint = "--rdzv-endpoint=localhost:29641"
    quick = "--rdzv-conf=last_call_timeout=5"
    words = command("train.py", *TINY, "schedule.epochs=8", launcher=(*TORCHRUN, *options, endpoint, quick))
    nodes = []
    for number in range(2):
        with (tmp_path / f"node{number}").open("w") as log:
            nodes.append(
                subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=log, stderr=log, start_new_session=True)
            )
        time.sleep(1)

    def logs() -> str:
        return "".join((tmp_path / f"node{number}").read_text() for number in range(2))

    try:
        wait_for(lambda: "epoch 2/8" in logs(), 240, logs())
        assert "16 = 4 cpu x 4 per device x 1 accumulated" in logs()
        # Kill the second node, because the first one keeps the store, without which the nodes cannot agree.
        kill_tree(nodes[1].pid)
        assert nodes[0].wait(timeout=240) == 0, logs()
    finally:
        for node in nodes:
            node.kill()
    assert "16 = 2 cpu x 8 per device x 1 accumulated" in logs()
    folder = run_folder(tmp_path)
    assert folder.name == "two"
    assert json.loads((folder / "result.json").read_text())["facts"]["devices"] == 2


@pytest.mark.long
@pytest.mark.parametrize(
    "launcher", [("submitit_local", "hydra.launcher.tasks_per_node=2"), ("joblib", "hydra.launcher.n_jobs=2")]
)
def test_launchers_of_others_run_each_job_once(tmp_path, launcher):
    name, setting = launcher
    done = run(
        "train.py",
        "-m",
        *TINY,
        "model.attention.num_landmarks=4,10",
        f"hydra/launcher={name}",
        setting,
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
        expect=1,
    )
    check_finished(tmp_path / "sweep" / "0", devices=2)
    assert not (tmp_path / "sweep" / "1" / "result.json").exists()
    assert "/sweep/1 ended with exit code 2; train.log says why" in done.stderr
    assert "num_landmarks=10 is not a square number" in (tmp_path / "sweep" / "1" / "train.log").read_text()
    assert {path.name for path in (tmp_path / "sweep").iterdir()} <= {"0", "1", "multirun.yaml", "report", ".submitit"}


@pytest.mark.slow
def test_what_a_launcher_started_has_to_fit(tmp_path):
    """Rank 0 says what does not fit."""
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "mine"}
    done = run("train.py", "trainer=cpu", cwd=tmp_path, expect=2, **ranks)
    assert "ERROR: rank 0: torchrun started 2 processes on each of 1 nodes, and the settings say 1 on 1" in done.stderr
    assert not (tmp_path / "outputs").exists()  # a launch that is refused leaves no folder
    done = run("train.py", "-m", "seed=1,2", cwd=tmp_path, expect=2, **ranks)
    assert "A sweep is started by one process, and torchrun started 2" in done.stderr
