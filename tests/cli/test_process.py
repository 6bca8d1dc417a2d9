from pathlib import Path

from cli import process


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


def test_this_process_runs():
    assert process._runnable_threads() >= 1
