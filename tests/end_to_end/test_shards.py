"""Class folders are written into shards, which give the same run, with the commands that a user types."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.class_folders import write_class_folders
from tests.end_to_end.command import ROOT, read_csv, run, run_fresh, run_here, values
from tests.marks import slow

SMALL = ("data.img_size=32", "data.batch_size=8", "data.val_batch_size=4", "schedule.epochs=2", "augment=paper")
ALL_STEPS = ("schedule.warmup_epochs=0", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder that holds `tree`, class folders with enough images for several shards of one MiB."""
    cwd = tmp_path_factory.mktemp("shards")
    write_class_folders(cwd / "tree", train=10, val=5, size=(420, 320))
    return cwd


def hashes(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.glob("*.tar"))}


def without_times(folder: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in read_csv(folder)]


def train(cwd: Path, name: str, *arguments: str) -> list[dict[str, str]]:
    run("train.py", *SMALL, *ALL_STEPS, f"hydra.run.dir=run_{name}", *arguments, cwd=cwd)
    rows = without_times(cwd / f"run_{name}")
    assert len(values(rows, "train/loss")) == 4
    assert len(values(rows, "val/top1")) == 2
    return rows


@pytest.mark.slow
def test_shards_train_to_the_metrics_of_their_folder(folder):
    """The metrics agree to the last digit for ordered and shuffled shards, and for any number of workers."""
    for shuffle in ("false", "true"):
        out = f"shards_{shuffle}"
        done = run_fresh(
            "write_shards.py", "data.root=tree", f"out={out}", "shard_size=1", f"shuffle={shuffle}", cwd=folder
        )
        assert f"shards are in {out}: python src/train.py data=imagenet_wds data.root={out}" in done.stdout
    assert len(hashes(folder / "shards_true")) >= 3
    assert hashes(folder / "shards_true") != hashes(folder / "shards_false")

    expected = train(folder, "tree", "data=imagenet", "data.root=tree", "data.num_workers=0")
    shards = ("data=imagenet_wds", "data.num_workers=2")
    assert train(folder, "shards", *shards, "data.root=shards_false") == expected
    assert train(folder, "shuffled", *shards, "data.root=shards_true") == expected
    hub = ("data=hf", "data.path=tree", "data.num_workers=1")
    assert train(folder, "hf", *hub) == expected, "and so do class folders through Hugging Face's library"


@pytest.mark.slow
def test_writing_goes_on_after_a_kill(tmp_path):
    for number in range(60):  # nothing decodes these files, and each fills a shard
        for split in ("train", "val"):
            file = tmp_path / "tree" / split / "class" / f"{number}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes([number]) * 700_000)
    arguments = ("write_shards.py", "data.root=tree", "shard_size=1")
    run(*arguments, "out=whole", cwd=tmp_path)
    out = tmp_path / "killed"
    command = [sys.executable, str(ROOT / "src" / arguments[0]), *arguments[1:], "out=killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert kept
    assert len(kept) < len(hashes(tmp_path / "whole")), "it was killed in the middle"

    refused = run("train.py", "data=imagenet_wds", "data.root=killed", cwd=tmp_path, expect=2)
    assert "data.root=killed is incomplete: its writing was interrupted" in refused.stderr
    run(*arguments, "out=killed", cwd=tmp_path)
    assert hashes(out) == hashes(tmp_path / "whole")
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize(
    ("script", "arguments", "texts"),
    [
        ("write_shards.py", ["data=digits", "out=x"], ["data=digits", "class folders"]),
        ("write_shards.py", ["data.root=nowhere", "out=x"], ["data.root=nowhere is not a folder"]),
        ("write_shards.py", ["data.root=tree"], ["out"]),
        ("write_shards.py", ["data.root=tree", "out=x", "shard_size=0"], ["shard_size=0", "at least 1"]),
        ("train.py", ["data=imagenet_wds", "data.root=nowhere"], ["data.root=nowhere is not", "$IMAGENET_SHARDS"]),
        ("train.py", ["data=imagenet_wds", "data.root=tree"], ["no train-*.tar", "no .tar file"]),
        slow("train.py", ["data=hf", "data.path=./nowhere"], ["data.path=nowhere", "cannot be loaded"]),
    ],
    ids=["no folders", "no root", "no out", "size", "no shards", "no shards in it", "no set"],
)
def test_a_mistake_is_a_sentence(folder, script, arguments, texts):
    start = run_fresh if "data=hf" in arguments else run_here  # the library reads the variable when it is loaded
    done = start(script, *arguments, cwd=folder, expect=2, HF_HUB_OFFLINE="1")
    (message,) = done.stderr.strip().splitlines()
    assert message.startswith("ERROR: ")
    for text in texts:
        assert text in message
    shutil.rmtree(folder / "outputs", ignore_errors=True)
