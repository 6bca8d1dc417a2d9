"""What is printed about a run is what happened, and a launch that is refused leaves nothing behind."""

import json
import re

import pytest
import torch

from tests.invoke import invoke

TINY = ("data=fake", "data.train_images=8", "data.batch_size=4", "data.val_images=8", "trainer=cpu")


@pytest.mark.parametrize("callbacks", ["default", "none"])
def test_the_last_epoch_is_validated_however_rare_validations_are(callbacks, tmp_path):
    words = ("schedule.epochs=3", "trainer.max_steps=3", "trainer.check_val_every_n_epoch=5", f"callbacks={callbacks}")
    done = invoke("train.py", *TINY, *words, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["epochs"] == 2
    assert result["top1"] == result["best"] == result["last"]["val/top1"]
    assert ("src/evaluate.py checkpoint=run/checkpoints/best.ckpt" in done.stdout) == (callbacks == "default")


def test_a_validation_is_shown_once(tmp_path):
    words = ("schedule.epochs=4", "trainer.check_val_every_n_epoch=2", "hydra.run.dir=run")
    done = invoke("train.py", *TINY, *words, cwd=tmp_path)
    assert done.returncode == 0, done
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch")]
    assert [("val loss" in line, "top-1" in line) for line in lines] == [(False, False), (True, True)] * 2
    assert all("step loss" in line for line in lines)  # not the epoch's, which curves.png shows


def test_examples_that_are_no_images_are_not_called_so(tmp_path):
    words = ("data=recall", "data.train_examples=128", "data.val_examples=64", "model=soft_encoder", "trainer=cpu")
    short = ("schedule.epochs=1", "schedule.warmup_epochs=0", "hydra.run.dir=run")
    done = invoke("train.py", *words, *short, cwd=tmp_path)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("epoch")]
    assert re.search(r"\d examples/s ", line)


def test_a_speed_that_was_not_measured_is_none(tmp_path):
    assert invoke("train.py", *TINY, "schedule.epochs=1", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    words = ("checkpoint=run/checkpoints/best.ckpt", "trainer=cpu", "output_dir=out", "hydra.run.dir=out")
    limit = ("data.val_batch_size=4", "trainer.limit_val_batches=1")
    done = invoke("evaluate.py", *words, *limit, cwd=tmp_path)  # a single batch, from whose end time would be measured
    assert done.returncode == 0, done
    assert "speed" not in done.stdout
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (result["images"], result["images_per_second"]) == (4, None)
    assert [note for note in result["notes"] if "validation sees 4 of the 8 images, spread evenly" in note]


@pytest.mark.parametrize("word", ["optimizer.lr=-1", "model.attention.num_landmarks=10", "data.batch_size=999"])
def test_a_refused_launch_leaves_no_folder(word, tmp_path):
    assert invoke("train.py", "trainer=cpu", "data=fake", word, cwd=tmp_path).returncode == 2
    assert not list(tmp_path.iterdir())


def test_a_refused_launch_leaves_what_was_there(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    assert invoke("train.py", "trainer=cpu", "optimizer.lr=-1", "hydra.run.dir=run", cwd=tmp_path).returncode == 2
    assert (tmp_path / "run" / "notes.txt").is_file()
    assert invoke("train.py", *TINY, "schedule.epochs=1", "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    done = invoke("train.py", *TINY, "schedule.epochs=1", "hydra.run.dir=whole", cwd=tmp_path)
    assert (done.returncode, "holds a run already" in done.stderr) == (2, True)
    assert (tmp_path / "whole" / "result.json").is_file()


@pytest.mark.slow
def test_export_and_visualize_prepare_images_as_the_checkpoint_says(tmp_path):
    from PIL import Image

    words = ("data.mean=[0.25,0.5,0.75]", "data.std=[0.5,0.5,0.5]", "schedule.epochs=1", "hydra.run.dir=run")
    words += ("model.attention.newton_iters=3",)  # are traced in less time than twenty
    assert invoke("train.py", *TINY, *words, cwd=tmp_path).returncode == 0
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["recipe"]["data"]["mean"] = [0.1, 0.1, 0.1]  # what the file says of itself counts
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    done = invoke("export.py", "checkpoint=changed.ckpt", "hydra.run.dir=exported", cwd=tmp_path)
    assert re.search(r"mean \[0\.25, 0\.5, 0\.75\]", done.stdout), done
    del checkpoint["recipe"]
    torch.save(checkpoint, tmp_path / "bare.ckpt")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    words = ("image=red.png", "checkpoint=[bare.ckpt,changed.ckpt]", "hydra.run.dir=maps")
    done = invoke("visualize.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done
