"""`python src/train.py preflight=true ...`."""

import json
import sys

import pytest
import torch

from tests.end_to_end.command import run, run_here
from tests.end_to_end.test_bad_input import _tree


def _report(done, folder):
    """Return the lines of the printed report, after checking that the run's folder holds it and nothing more."""
    assert (folder / "preflight.txt").read_text() == done.stdout
    assert {path.name for path in folder.iterdir()} <= {".hydra", "preflight.txt", "train.log"}
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith("- ")) <= 80
    assert "Warning" not in done.stderr
    return lines


def test_the_papers_hardware_from_anywhere(tmp_path):
    arguments = ("preflight=true", "model=soft_tiny", "trainer=v100_ddp", "hydra.run.dir=run")
    done = run("train.py", *arguments, cwd=tmp_path)
    lines = _report(done, tmp_path / "run")
    text = " ".join(done.stdout.split())
    for expected in (
        "soft_tiny, 13.07 M parameters",
        "1,281,167 training and 50,000 validation images, 1000 classes, 224x224 px",
        "4 nodes x 8 cuda (sm_70)",
        "1024 = 32 cuda x 32 images x 1 accumulated, 32-true",
        "0.001 (base 0.001 at batch 1024",
        "300 epochs x 1,251 steps, 375,300 in all",
        "GiB of 32.00 GiB per device",
        "data.root=data/imagenet is not a folder",
        "The recipe itself is sound.",
    ):
        assert expected in text, expected
    if torch.cuda.device_count() < 8:
        assert "Missing on this machine" in text
        assert "needs 8 V100 GPUs" in text
    start = next(i for i, line in enumerate(lines) if line.startswith("rank"))
    ranks = [line.split() for line in lines[start + 1 : start + 33]]
    assert [row[:5] for row in ranks[:2]] == [
        ["0", "0", "0", "cuda:0", "0-31"],
        ["1", "0", "1", "cuda:1", "32-63"],
    ]
    assert ranks[31][:5] == ["31", "3", "7", "cuda:7", "992-1023"]
    assert {row[-1] for row in ranks} == {"GiB"}


def test_a_recipe_that_cannot_run_ends_in_2(tmp_path):
    root = _tree(tmp_path, "train/a", "train/b", "val/a", "val/c")
    arguments = (
        "preflight=true",
        "model=soft_tiny",
        "trainer=v100_ddp",
        "trainer.device_memory=1",
        f"data.root={root}",
    )
    done = run_here("train.py", *arguments, "hydra.run.dir=run", cwd=tmp_path, expect=2)
    _report(done, tmp_path / "run")
    for text in ("cannot run as it stands", "1.00 GiB", "only one of them has b, c"):
        assert text in done.stdout
    assert "sound" not in done.stdout


def test_the_default_run(tmp_path):
    done = run_here("train.py", "preflight=true", "logger=wandb", "hydra.run.dir=run", cwd=tmp_path)
    _report(done, tmp_path / "run")
    for text in ("Nothing stands against a launch.", "offline", "1,437 training"):
        assert text in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other allocators keep what they like")
def test_the_expected_memory_is_what_the_process_takes(tmp_path):
    size = ("model=soft_tiny", "data=fake", "data.img_size=224", "data.train_images=48", "data.val_images=16")
    length = ("data.batch_size=16", "schedule.epochs=1", "schedule.warmup_epochs=0", "trainer=cpu", "callbacks=none")
    run("train.py", *size, *length, "hydra.run.dir=run", cwd=tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["facts"]["expected_memory"] == pytest.approx(result["peak_memory"], rel=0.15)
