import gc
import io
import os
import sys
from pathlib import Path

import torch

from cli import process
from soft.hardware.machine import describe_machine


def test_busy_is_what_most_samples_say(monkeypatch):
    for running, expected in (([1, 1, 2], False), ([3, 1, 2], True), ([1, 5, 1], False)):
        samples = iter(running)
        monkeypatch.setattr(process, "_runnable_threads", lambda samples=samples: next(samples))
        assert process.is_busy(samples=3, pause=0) is expected


def test_where_the_system_does_not_say(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert not process.is_busy(samples=2, pause=0)


def test_the_count_is_what_the_system_says(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "cpu 1 2\nprocs_running 7\nprocs_blocked 9\n")
    assert process._runnable_threads() == 7


def test_settings_are_made_and_logged(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(process, "is_busy", lambda: True)
    before = gc.get_threshold()
    try:
        process.prepare_process(openmp_spin="auto", gc_threshold=12_345)
        facts = describe_machine(torch.device("cpu"))
        assert (facts["openmp_spin"], facts["gc_threshold"]) == ("2000", 12_345)
        process.prepare_process(openmp_spin=7, gc_threshold=12_345)
        assert os.environ["GOMP_SPINCOUNT"] == "2000"  # what is set already stays
    finally:
        gc.set_threshold(*before)


def test_any_name_can_be_printed(monkeypatch):
    for encoding, shown in (("utf-8", "é \\udce9"), ("ascii", "\\xe9 \\udce9")):
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
        process.print_any_name()
        print("é \udce9", flush=True)
        assert out.getvalue().decode(encoding) == f"{shown}\n"


def test_nothing_is_set_where_nothing_else_runs(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(process, "is_busy", lambda: False)
    process.prepare_process(openmp_spin="auto", gc_threshold=gc.get_threshold()[0])
    assert "GOMP_SPINCOUNT" not in os.environ
