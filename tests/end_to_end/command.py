"""Runs the commands as a user does, and reads what they log."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

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


def run(
    *arguments: str, cwd: Path, expect: int = 0, launcher: Sequence[str] = (), **more: str
) -> subprocess.CompletedProcess:
    """Run `python src/...` in `cwd`, and return the finished process; fail, with its output, on another exit code."""
    done = subprocess.run(
        command(*arguments, launcher=launcher),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run_here(*arguments: str, cwd: Path, expect: int = 0, **more: str) -> Done:
    """Run `src/...` as `run` does, in this process, which saves the seconds that a start takes.

    A test that looks at warnings, signals, several processes or what is imported needs `run`.
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
