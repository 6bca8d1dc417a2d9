"""A run whose loader process dies says what happened, and from which checkpoint it can go on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.command import ROOT

RUN = (sys.executable, str(ROOT / "src" / "train.py"), "data=fake", "data.num_workers=2", "hydra.run.dir=run")


def children(pid: int) -> list[int]:
    """Return the living processes that `pid` started, oldest first."""
    lists = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sorted(int(child) for each in lists for child in each)


def message(process: subprocess.Popen) -> str:
    """Return the error message of a run that ends with exit code 2 and prints no other."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if "ERROR: " in line]
    return line


def test_a_killed_worker(tmp_path):
    process = subprocess.Popen(
        [*RUN, "data.train_images=4096", "schedule.epochs=50"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 240
    while not (last.is_file() and len(children(process.pid)) >= 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    victim = children(process.pid)[-1]
    os.kill(victim, signal.SIGKILL)

    text = message(process)
    assert f"A loader process (pid {victim}) was killed by the system (SIGKILL), most likely because memory ran" in text
    assert "Lower data.num_workers or data.batch_size" in text
    assert f"The last checkpoint is {last}; resume={last} goes on from it." in text


def test_full_shared_memory(tmp_path):
    """The run gets a /dev/shm of one MiB of its own."""
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("mounting needs root; tests/data/test_workers.py has the same error by a limit on files")
    process = subprocess.Popen(
        [*mount, *RUN, "data.img_size=64"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )

    text = message(process)
    assert "A loader process found shared memory full. Batches go through /dev/shm, which has 1 MiB" in text
    assert "or set data.num_workers=0, which uses no shared memory" in text
