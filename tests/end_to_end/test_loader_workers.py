"""A run whose loader process dies says what happened, and from which checkpoint it can go on."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.command import command, start
from tests.end_to_end.fork_server import Forked

RUN = ("train.py", "data=fake", "data.num_workers=2", "hydra.run.dir=run")


def children(pid: int) -> list[int]:
    """Return the living processes that `pid` started, oldest first."""
    lists = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sorted(int(child) for each in lists for child in each)


def message(process: Forked | subprocess.Popen, errors: Path) -> str:
    """Return the error message of a run that ends with exit code 2 and prints no other."""
    assert process.wait(timeout=120) == 2, errors.read_text()
    assert "Traceback" not in errors.read_text()
    (line,) = [line for line in errors.read_text().splitlines() if "ERROR: " in line]
    return line


@pytest.mark.slow
def test_a_killed_worker(tmp_path):
    out, errors = tmp_path / "out", tmp_path / "errors"
    size = ("data.train_images=1024", "data.val_images=64", "schedule.epochs=200")
    process = start(*RUN, *size, cwd=tmp_path, out=out, err=errors)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 240
    while not (last.is_file() and len(children(process.pid)) >= 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    victim = children(process.pid)[-1]
    os.kill(victim, signal.SIGKILL)

    text = message(process, errors)
    assert f"A loader process (pid {victim}) was killed by the system (SIGKILL), most likely because memory ran" in text
    assert "Lower data.num_workers or data.batch_size" in text
    assert f"The last checkpoint is {last}; resume={last} goes on from it." in text


@pytest.mark.slow
def test_full_shared_memory(tmp_path):
    """The run gets a /dev/shm of one MiB of its own."""
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("mounting needs root; tests/data/test_workers.py has the same error by a limit on files")
    with (tmp_path / "errors").open("w") as errors:
        words = [*mount, *command(*RUN, "data.img_size=64")]
        process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=errors)

    text = message(process, tmp_path / "errors")
    assert "A loader process found shared memory full. Batches go through /dev/shm, which has 1 MiB" in text
    assert "or set data.num_workers=0, which uses no shared memory" in text
