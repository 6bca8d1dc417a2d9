"""Files are written whole or not at all, and a full disk ends in a sentence."""

import multiprocessing
import os
import resource
import signal
import subprocess
from contextlib import suppress

import pytest
import torch

from soft.errors import RunError
from soft.monitoring.csv_logger import CsvLogger
from soft.runs.checkpointing import AtomicCheckpointIO
from soft.writing import link_file, replace_csv, replace_file, replace_text


def in_a_fork(act) -> int:
    """Call `act` in a process of its own; return that process's exit code, of a signal negative."""
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture
def small_disk(tmp_path):
    """Yield the folder of a real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_replaces_and_leaves_nothing_else(tmp_path):
    for text in ("one", "two"):
        replace_text(tmp_path / "new" / "file", text)
        assert (tmp_path / "new" / "file").read_text() == text
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_name_that_is_no_text_is_written(tmp_path):
    replace_csv(tmp_path / "a.csv", [["file"], [os.fsdecode(b"b\xff.png")]])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "file\nb\\udcff.png\n"


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path):
    replace_text(tmp_path / "file", "old")

    def write(file):
        file.write(b"ne")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - raised by this test
        replace_file(tmp_path / "file", write)
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_killed_in_the_middle_leaves_the_old_file(tmp_path):
    replace_text(tmp_path / "file", "old")

    def write(file):
        file.write(b"x" * 100000)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_fork(lambda: replace_file(tmp_path / "file", write)) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "file").read_text() == "old"
    replace_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_full_disk(small_disk):
    io, path = AtomicCheckpointIO(), small_disk / "last.ckpt"
    io.save_checkpoint({"weights": torch.ones(50_000)}, path)
    with pytest.raises(RunError, match=rf"{path} was not written: the disk is full \([01] MiB are free"):
        io.save_checkpoint({"weights": torch.zeros(250_000)}, path)
    assert io.load_checkpoint(path)["weights"].sum() == 50_000
    assert [file.name for file in small_disk.iterdir()] == ["last.ckpt"]
    with pytest.raises(RunError, match="the disk is full"):
        io.save_checkpoint({"weights": torch.zeros(250_000)}, small_disk / "other.ckpt")


def test_rows_on_a_full_disk(small_disk):
    logger = CsvLogger(str(small_disk))

    def log(steps, name):
        for step in steps:
            logger.log_metrics({name: 1.0}, step=step)
            logger.save()

    log([0], "loss")
    rows = (small_disk / "metrics.csv").read_text()
    with (small_disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(RunError, match=r"metrics.csv was not written: the disk is full"):
        log(range(1, 1000), "loss")
    assert (small_disk / "metrics.csv").read_text().startswith(rows)
    with pytest.raises(RunError, match=r"metrics.csv was not written"):
        log([1000], "another")
    assert (small_disk / "metrics.csv").read_text().startswith(rows)


def test_limit_on_file_sizes(tmp_path):
    def write_more_than_allowed():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(RunError, match="was not written: the limit on the size of files"):
            replace_text(tmp_path / "file", "x" * 2000)

    assert in_a_fork(write_more_than_allowed) == 0
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_text(tmp_path / "folder", "x")


def test_a_second_name_for_a_file(tmp_path, monkeypatch):
    replace_text(tmp_path / "a", "one")
    link_file(tmp_path / "a", tmp_path / "b")
    replace_text(tmp_path / "a", "two")
    assert (tmp_path / "b").read_text() == "one"

    def refuse(*_):
        raise OSError

    monkeypatch.setattr(os, "link", refuse)  # some network file systems refuse links
    link_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "two"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
