"""A rank that hangs in a step ends on a signal all the same."""

import hashlib
import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from soft.runs import signals

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def rank(name: str, ranks: int, how: str, folder: Path) -> None:
    """Get a signal while in a call that Python cannot interrupt, as is a collective that waits for a lost rank."""
    number = getattr(signal, name)
    trainer = SimpleNamespace(
        world_size=ranks, is_global_zero=True, global_rank=0, strategy=SimpleNamespace(cluster_environment=None)
    )
    with signals.SIGNALS.listen():
        signals.SIGNALS.wait_for_checkpoint(trainer)
        if how == "worker" and os.fork() == 0:
            os.kill(os.getpid(), number)
            os._exit(0)
        if how != "worker":
            threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        if how == "obeys":
            while not signals.SIGNALS.received:
                time.sleep(0.01)
            signals.SIGNALS.obey()
        start = time.monotonic()
        while time.monotonic() - start < 1.0:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000_000 if how == "hangs" else 100_000)
    (folder / "went_on").touch()


def end_of(name: str, ranks: int, how: str, folder: Path, monkeypatch) -> int:
    """Return the exit code of `rank` in a process of its own."""
    monkeypatch.setattr(signals, "PATIENCE", 0.3)
    monkeypatch.setattr(signals, "requeue", (folder / "requeued").touch)
    child = os.fork()
    if child == 0:
        logging.basicConfig(filename=folder / "log", force=True)
        try:
            rank(name, ranks, how, folder)
        finally:
            os._exit(0 if (folder / "went_on").exists() else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_rank_that_hangs_ends(name, tmp_path, monkeypatch):
    assert end_of(name, 2, "hangs", tmp_path, monkeypatch) == 128 + getattr(signal, name)

    assert f"{name}: the step has not ended within" in (tmp_path / "log").read_text()
    assert (tmp_path / "requeued").exists() == (name == "SIGUSR1")


@pytest.mark.parametrize(
    ("ranks", "how"), [(2, "obeys"), (1, "waits"), (2, "worker")], ids=["checkpoint", "one rank", "signal to a worker"]
)
def test_one_that_follows_the_signal_takes_its_time(ranks, how, tmp_path, monkeypatch):
    assert end_of("SIGTERM", ranks, how, tmp_path, monkeypatch) == 0
