"""The check of the GPU path tries itself on a CPU, in small."""

import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch

from soft.benchmark.gpu_check.measured import Check, Measured
from soft.benchmark.gpu_check.parts import PARTS
from soft.benchmark.gpu_check.runner import run_check
from soft.benchmark.gpu_check.training import measure_training
from soft.benchmark.reporter import Reporter
from tests.end_to_end.command import ROOT, environment
from tests.end_to_end.fork_server import Forked
from tests.marks import slow

SLOW = {"training", "waits", "cores", "memory", "numbers"}


@pytest.fixture
def check(tmp_path) -> Check:
    return Check(torch.device("cpu"), True, ROOT, tmp_path)


class Forking:
    """In place of `subprocess`: commands find the large libraries loaded."""

    STDOUT, TimeoutExpired = subprocess.STDOUT, subprocess.TimeoutExpired

    @staticmethod
    def Popen(words, *, stdout, stderr, cwd):  # noqa: N802
        assert stderr == subprocess.STDOUT
        return Forked(words[1:], cwd, environment(), Path(stdout.name))

    @classmethod
    def run(cls, words, *, timeout, **options):
        process = cls.Popen(words, **options)
        process.wait(timeout)
        return process


@pytest.mark.parametrize("name", [slow(name) if name in SLOW else name for name in PARTS])
def test_every_part(name, check, monkeypatch):
    """Limits of speed are a GPU's; what is computed and waited for has to hold anywhere."""
    part, seconds = PARTS[name]
    monkeypatch.setattr("soft.benchmark.gpu_check.training.subprocess", Forking)

    found = list(part(check))

    assert seconds > 0
    assert found
    assert [figure.what for figure in found if figure.met is False] == []
    numbers = [figure.value for figure in found if not isinstance(figure.value, str)]
    assert all(value == value and value < float("inf") for value in numbers)


def slow(check):
    while True:
        time.sleep(0.02)
        yield Measured("a step", 1.0, "s", maximum=2)


def failing(check):
    yield Measured("before", 3.0, "ms", minimum=1)
    raise ValueError("broken\nsecond line")


def test_parts_that_fail_or_take_too_long_leave_what_they_found(check, capsys):
    parts = {"failing": (failing, 10), "slow": (slow, 0.05), "late": (slow, 0.0)}

    held = run_check(Reporter(check.folder, {"device": "a card"}), check, parts, list(parts), 60)

    assert not held
    lines = [json.loads(line) for line in (check.folder / "gpu_check.jsonl").read_text().splitlines()]
    assert [line["part"] for line in lines] == ["failing", "slow", "late"]
    assert [row["what"] for row in lines[0]["found"]] == ["before", "failed"]
    assert lines[0]["found"][1]["value"] == "ValueError: broken"
    assert lines[1]["found"][-1]["what"] == "cut short"
    assert lines[2]["found"] == [Measured("not begun", "no time left").as_row("late")]
    assert [json.loads(line)["part"] for line in capsys.readouterr().out.splitlines()[:3]] == list(parts)
    table = (check.folder / "gpu_check.md").read_text()
    assert table.startswith("- device: a card\n")
    assert "| failing | before | 3 | ms | >= 1 | yes |  |" in table


def test_a_part_without_time_is_no_failure(check):
    parts = {"slow": (slow, 0.05), "late": (slow, 0.0)}
    assert run_check(Reporter(check.folder, {}), check, parts, list(parts), 60)


def test_a_training_that_does_not_end_is_killed_and_misses_its_limit(check, monkeypatch):
    class Deaf(Forking):
        @staticmethod
        def Popen(words, **options):  # noqa: N802
            deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
            return subprocess.Popen([sys.executable, "-c", deaf], **options)

    monkeypatch.setattr("soft.benchmark.gpu_check.training.subprocess", Deaf)
    monkeypatch.setattr("soft.benchmark.gpu_check.training.PATIENCE", 0.5)
    _, code = islice(measure_training(check), 2)
    assert (code.value, code.as_row("training")["met"]) == (-9, "no")


def test_a_limit_that_is_missed_is_no_success(check):
    def wrong(check):
        yield Measured("waits", 2, maximum=1)

    assert not run_check(Reporter(check.folder, {}), check, {"waits": (wrong, 5)}, ["waits"], 60)
