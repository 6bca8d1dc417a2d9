"""Runs the commands as a user does, and reads what they log."""

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from tests.end_to_end.fork_server import Forked
from tests.invoke import Done, invoke

ROOT = Path(__file__).resolve().parents[2]


TORCHRUN = ("-m", "torch.distributed.run")


def command(*arguments: str, launcher: Sequence[str] = ()) -> list[str]:
    """Return the words of the command `python [launcher] src/...`."""
    script, *rest = arguments
    return [sys.executable, *launcher, str(ROOT / "src" / script), *rest]


def environment(**more: str) -> dict[str, str]:
    """Return the environment without variables for a user's own runs; callbacks of the tests can be imported in it."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "HYDRA_", "IMAGENET_"))}
    return {**env, "PYTHONPATH": str(ROOT), **more}


def run_fresh(*arguments: str, cwd: Path, expect: int = 0, **more: str) -> subprocess.CompletedProcess:
    """Run `python src/...` in `cwd`, and return the finished process; fail, with its output, on another exit code.

    At least one test of each command does so; most others need no more than `run` or `run_here`.
    """
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(*arguments: str, cwd: Path, out: Path, err: Path | None = None, **more: str) -> Forked:
    """Start `src/...` in `cwd` as a process of its own, which finds the large libraries loaded."""
    return Forked(command(*arguments)[1:], cwd, environment(**more), out, err)


def run(*arguments: str, cwd: Path, expect: int = 0, **more: str) -> Done:
    """Run `src/...` as `run_fresh` does, in a process that finds the large libraries loaded.

    A test that looks at what is imported, or at what a library reads from the environment meanwhile, needs `run_fresh`.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = start(*arguments, cwd=cwd, out=out, err=err, **more)
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        done = Done(code, out.read_text(), err.read_text())
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run_here(*arguments: str, cwd: Path, expect: int = 0, **more: str) -> Done:
    """Run `src/...` as `run` does, in this process, which takes the least time.

    A test that looks at warnings, signals or several processes needs `run`.
    """
    with mock.patch.dict(os.environ, more):
        done = invoke(*arguments, cwd=cwd)
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def read_csv(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run's metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def values(rows: list[dict[str, str]], name: str) -> list[float]:
    """Return the values that were logged under `name`, in order."""
    return [float(row[name]) for row in rows if row.get(name)]
