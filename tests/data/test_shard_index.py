"""The index of shards: made once, whole or not at all, wherever it can be written."""

import io
import multiprocessing
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from soft.data import shard_index
from soft.data.shard_index import ShardIndex, index_shards
from soft.errors import SettingError

PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Two shards, in a folder that other users may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    write_shard(path / "b.tar", {"1": (b"one", 7), "0": (b"zero", 5)})
    write_shard(path / "a.tar", {"3": (b"three", 1), "2": (b"two", 0)})
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


def write_shard(path: Path, samples: dict[str, tuple[bytes, int]]) -> None:
    with tarfile.open(path, "w") as tar:
        for key, (image, label) in samples.items():
            for name, content in ((f"{key}.jpg", image), (f"{key}.cls", str(label).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def index(folder: Path) -> ShardIndex:
    return index_shards([folder / "b.tar", folder / "a.tar"], "label", folder / "cache")


def contents(folder: Path, found: ShardIndex) -> list[tuple[bytes, int]]:
    files = [(folder / name).read_bytes() for name in ("b.tar", "a.tar")]
    rows = zip(found.shard, found.offset, found.size, found.label, strict=True)
    return [(files[shard][offset : offset + size], label) for shard, offset, size, label in rows]


EXPECTED = [(b"zero", 5), (b"one", 7), (b"two", 0), (b"three", 1)]


def test_samples_come_by_key_whatever_the_shards(folder):
    assert contents(folder, index(folder)) == EXPECTED


def no_reading(*_) -> None:
    raise AssertionError("the headers are read again")


def test_a_second_call_reads_the_file_alone(folder, monkeypatch):
    index(folder)
    (file,) = folder.glob("index-*.npz")
    monkeypatch.setattr(shard_index, "read_headers", no_reading)

    assert contents(folder, index(folder)) == EXPECTED
    assert file.stat().st_mode & 0o777 == 0o644, "for other users too"


def test_a_changed_shard_is_indexed_anew(folder):
    index(folder)
    write_shard(folder / "b.tar", {"1": (b"one", 2), "0": (b"zero", 2)})  # as many bytes as before

    assert [label for _, label in contents(folder, index(folder))] == [2, 2, 0, 1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-40]),
        lambda file: np.savez(file, shard=[0]),
        lambda file: np.savez(file, shard=[9], offset=[0], size=[0], label=[0]),
        lambda file: np.savez(file, shard=[0], offset=[10**9], size=[5], label=[0]),
        lambda file: np.savez(file, shard=np.array([{}]), offset=[0], size=[5], label=[0]),
    ],
    ids=["empty", "cut off", "incomplete", "no such shard", "beyond the end", "pickled"],
)
def test_a_damaged_index_is_made_anew(folder, damage):
    index(folder)
    (file,) = folder.glob("index-*.npz")
    damage(file)

    assert contents(folder, index(folder)) == EXPECTED
    assert len(np.load(file)["label"]) == 4


def test_ranks_that_start_together_read_the_headers_once(folder):
    read_headers = shard_index.read_headers

    def slow(*arguments):
        with (folder / "reads").open("a") as file:
            file.write("x")
        time.sleep(0.2)  # for the others to come in between
        return read_headers(*arguments)

    def work() -> None:
        shard_index.read_headers = slow
        together.wait()
        results.put(contents(folder, index(folder)))

    together, results = PROCESSES.Barrier(4), PROCESSES.Queue()
    ranks = [PROCESSES.Process(target=work) for _ in range(4)]
    for rank in ranks:
        rank.start()
    found = [results.get(timeout=60) for _ in ranks]
    for rank in ranks:
        rank.join()

    assert found == [EXPECTED] * 4
    assert (folder / "reads").read_text() == "xx"


def as_a_stranger(task: Callable[[], object]) -> object:
    """What `task` gives in a process that may write nothing of ours; root may write everywhere."""

    def work() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            results.put(task())
        except SettingError as error:
            results.put(str(error))

    results = PROCESSES.Queue()
    stranger = PROCESSES.Process(target=work)
    stranger.start()
    result = results.get(timeout=60)
    stranger.join()
    return result


def test_shards_that_cannot_be_written_beside_have_their_index_in_the_cache(folder):
    (folder / "cache").mkdir()
    (folder / "cache").chmod(0o777)
    folder.chmod(0o555)

    assert as_a_stranger(lambda: contents(folder, index(folder))) == EXPECTED
    assert len(list((folder / "cache").glob("index-*.npz"))) == 1
    assert not list(folder.glob("index-*.npz"))


def test_a_cache_that_cannot_be_written_either_is_named(folder):
    folder.chmod(0o555)
    message = as_a_stranger(lambda: index(folder))

    assert f"can be written neither there nor in cache={folder}/cache" in message
    assert "Permission denied" in message


def test_members_that_are_no_samples_are_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        (tmp_path / "x").write_bytes(b"7")
        for name in ("README", "./._0.jpg", "sub.folder/0.cls", "sub.folder/0.JPEG", "sub.folder/0.mask.png", "0.txt"):
            tar.add(tmp_path / "x", name)
        link = tarfile.TarInfo("../../1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)

    ((key, _, size, label),), left_out = shard_index.read_headers(tmp_path / "a.tar", "label")
    assert (key, size, label) == ("sub.folder/0", 1, 7)
    assert not left_out
