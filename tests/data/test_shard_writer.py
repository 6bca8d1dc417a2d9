"""Shards are the same bytes every time, whatever interrupted their writing."""

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from soft.data import shard_writer
from soft.data.shard_writer import plan_shards, write_shards
from soft.errors import SettingError
from tests.data.class_folders import write_class_folders

PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Enough for several shards of a MiB."""
    return write_class_folders(tmp_path_factory.mktemp("tree"), train=10, val=4, size=(420, 320))


def write(root: Path, out: Path, written=lambda size: None, shuffle: bool = False, seed: int = 0) -> dict[str, str]:
    """The hashes of the files that are there afterwards, by name."""
    write_shards(plan_shards(root, out, 1, shuffle, seed), out, out, written)
    return hashes(out)


def hashes(out: Path) -> dict[str, str]:
    files = [path for path in sorted(out.iterdir()) if path.suffix in (".tar", ".json")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_images_give_the_same_bytes(tree, tmp_path):
    first = write(tree, tmp_path / "first")
    copy = shutil.copytree(tree, tmp_path / "copy", copy_function=shutil.copyfile)

    assert len(first) >= 4
    assert write(copy, tmp_path / "second") == first
    shuffled = write(tree, tmp_path / "third", shuffle=True)
    assert write(copy, tmp_path / "fourth", shuffle=True) == shuffled
    assert write(copy, tmp_path / "fifth", shuffle=True, seed=1) != shuffled != first


def test_sizes_are_as_planned_and_bounded(tree, tmp_path):
    sizes = []
    plan = plan_shards(tree, tmp_path, 1, False, 0)
    write_shards(plan, tmp_path, tmp_path, sizes.append)
    shards = list(tmp_path.glob("*.tar"))

    assert {path.name: path.stat().st_size for path in shards} == {shard.path.name: shard.size for shard in plan.shards}
    assert all(path.stat().st_size <= 2**20 for path in shards)
    assert sum(sizes) == plan.size == sum(path.stat().st_size for path in shards)


def test_an_image_larger_than_a_shard_has_one_of_its_own(tmp_path):
    root = write_class_folders(tmp_path / "tree", train=2, val=1)
    large = root / "train" / "n01440764" / "n01440764_1.JPEG"
    large.write_bytes(large.read_bytes() + bytes(2**20))
    plan = plan_shards(root, tmp_path / "out", 1, False, 0)

    assert [len(shard.samples) for shard in plan.shards if shard.split == "train"] == [1, 1, 2]
    write_shards(plan, tmp_path / "out", tmp_path / "out", lambda size: None)


@pytest.mark.parametrize("moment", [0, 3, 9, 15, 20, 26])
def test_an_interrupted_writing_goes_on(tree, tmp_path, moment):
    def interrupt(size: int) -> None:
        calls.append(size)
        if len(calls) > moment:
            raise KeyboardInterrupt

    calls = []
    whole = write(tree, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write(tree, out, interrupt)
    assert not (out / "shards.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}

    assert write(tree, out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept, "whole shards are not written again"
    assert not list(out.glob("*.partial"))


def test_finished_shards_are_left_alone(tree, tmp_path):
    write(tree, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if not path.name.startswith(".")}
    write(tree, tmp_path)

    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before


def test_a_shard_that_was_deleted_is_written_again(tree, tmp_path):
    before = write(tree, tmp_path)
    (tmp_path / "train-000001.tar").unlink()

    assert write(tree, tmp_path) == before


def test_the_manifest_says_what_there_is(tree, tmp_path):
    write(tree, tmp_path, shuffle=True, seed=5)
    manifest = json.loads((tmp_path / "shards.json").read_text())

    assert manifest["classes"] == ["n01440764", "n02119789"]
    assert manifest["train"] == {"images": 20, "shards": len(list(tmp_path.glob("train-*.tar")))}
    assert (manifest["shard_size"], manifest["shuffle"], manifest["seed"]) == (1, True, 5)


def other_images(root: Path, out: Path) -> None:
    with (root / "val" / "n01440764" / "n01440764_0.JPEG").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda root, out: None, dict(shuffle=True), "holds shards of other images, or written with other settings"),
        (other_images, {}, "holds shards of other images, or written with other settings (shards.json there"),
        (lambda root, out: (out / "shards.json").unlink(), {}, "holds .tar files that this tool did not write"),
    ],
    ids=["other settings", "other images", "other tar files"],
)
def test_shards_of_different_kinds_are_not_mixed(tree, tmp_path, change, options, message):
    root = shutil.copytree(tree, tmp_path / "tree")
    before = write(root, tmp_path / "out")
    change(root, tmp_path / "out")

    with pytest.raises(SettingError) as caught:
        write(root, tmp_path / "out", **options)
    assert message in caught.value.as_settings()
    assert hashes(tmp_path / "out").items() <= before.items()


def test_two_writers_do_not_share_a_folder(tree, tmp_path):
    def hold() -> None:
        with FileLock(tmp_path / ".write.lock"):
            held.set()
            done.wait(60)

    held, done = PROCESSES.Event(), PROCESSES.Event()
    other = PROCESSES.Process(target=hold)
    other.start()
    held.wait(60)
    with pytest.raises(SettingError, match=r"Another process is writing to out="):
        write(tree, tmp_path)
    done.set()
    other.join()
    write(tree, tmp_path)


def test_an_image_that_changes_meanwhile_is_named(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    plan = plan_shards(root, tmp_path / "out", 1, False, 0)
    other_images(root, tmp_path)

    with pytest.raises(SettingError, match=r"n01440764_0.JPEG \(root\) has changed while shards were written"):
        write_shards(plan, tmp_path / "out", tmp_path / "out", lambda size: None)


def test_a_disk_that_is_too_small_is_known_before_writing(tree, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shard_writer.shutil, "disk_usage", lambda path: usage)

    with pytest.raises(SettingError, match=r"needs 0\.00 GiB and has 0\.00 GiB free; choose a larger disk"):
        write(tree, tmp_path)
    assert not list(tmp_path.glob("*.tar*"))


def test_a_write_that_fails_is_a_sentence_and_the_next_call_goes_on(tree, tmp_path):
    """The real error of a file system that takes no more, here by a limit on the size of files."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
        try:
            write(tree, tmp_path)
        except SettingError as error:
            message.send(str(error))
            os._exit(0)

    said, message = PROCESSES.Pipe()
    process = PROCESSES.Process(target=limited)
    process.start()
    assert said.poll(60)
    assert said.recv().startswith(f"Shards cannot be written to out={tmp_path}: [Errno 27] File too large")
    process.join()
    assert not (tmp_path / "shards.json").exists()
    assert "shards.json" in write(tree, tmp_path)


def test_an_image_that_cannot_be_found_is_named(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    (root / "train" / "n01440764" / "gone.JPEG").symlink_to("nowhere")

    with pytest.raises(SettingError, match=r"gone.JPEG \(root\) cannot be read: No such file"):
        plan_shards(root, tmp_path / "out", 1, False, 0)


@pytest.mark.parametrize("size", [0, -1, 0.5, "big"])
def test_the_size_is_checked(tree, tmp_path, size):
    with pytest.raises(SettingError, match=r"^shard_size=.* has to be a whole number of at least 1"):
        plan_shards(tree, tmp_path, size, False, 0)
