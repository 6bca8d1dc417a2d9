"""`python src/train.py`: the files that it writes and what it prints."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.end_to_end.command import read_csv, run, run_fresh, run_here, values
from tests.marks import slow

TINY = ("data=fake", "data.train_images=64", "data.val_images=20", "data.batch_size=16", "schedule.epochs=2")


def test_run_folder_holds_everything(digits):
    folder, _ = digits
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["attention"]["num_landmarks"] == 9
    assert config["schedule"]["epochs"] == 2
    assert "[INFO]" in (folder / "train.log").read_text()
    assert Image.open(folder / "curves.png").size[0] >= 1000
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}


def test_metrics_have_the_fields_names(digits):
    rows = read_csv(digits[0])
    for name in (
        "train/loss",
        "lr",
        "grad_norm",
        "images_per_second",
        "val/loss",
        "val/top1",
        "val/top5",
        "val_raw/top1",
    ):
        assert values(rows, name), name
    for stage in (1, 2, 3):
        residuals = values(rows, f"newton/residual_stage{stage}")
        assert len(residuals) == 2
        assert all(0 <= residual < 1 for residual in residuals)
    assert 10 < values(rows, "val/top1")[0] <= values(rows, "val/top5")[0] <= 100
    assert len(values(rows, "train/loss")) == 22  # one for every second of 44 steps


def test_checkpoint_is_plain_and_holds_both_weights(digits):
    checkpoint = torch.load(digits[0] / "checkpoints" / "last.ckpt", weights_only=True)
    raw = checkpoint["state_dict"]["model.head.weight"]
    average = checkpoint["state_dict"]["ema.module.head.weight"]
    assert raw.shape == average.shape
    assert not torch.equal(raw, average)
    assert checkpoint["recipe"]["model"]["name"] == "soft_pico"
    assert checkpoint["global_step"] == 44


def test_screen_tells_before_and_after(digits):
    out = digits[1].stdout
    for text in (
        "soft_pico, 1.27 M parameters",
        "1,437 training",
        "64 = 1 cpu x 64",
        "0.001 (base 0.016",
        "2 epochs, 44 steps",
    ):
        assert text in out
    assert "best val/top1" in out
    assert "python src/evaluate.py checkpoint=run/checkpoints/best.ckpt" in out
    lines = [line for line in digits[1].stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    for text in ("step loss", "top-1", "images/s", "left"):
        assert all(text in line for line in lines)
    assert "Warning" not in digits[1].stderr


@pytest.mark.parametrize(("name", "start"), [slow("best", run_fresh), ("last", run_here)], ids=["best", "last"])
def test_evaluate_gives_the_logged_top1(digits, name, start):
    folder, _ = digits
    start("evaluate.py", f"checkpoint=run/checkpoints/{name}.ckpt", f"hydra.run.dir={name}", cwd=folder.parent)
    result = yaml.safe_load((folder.parent / name / "evaluation.json").read_text())
    rows = read_csv(folder)
    assert result["top1"] == pytest.approx(values(rows, "val/top1")[-1], abs=1e-9)
    assert result["loss"] == pytest.approx(values(rows, "val/loss")[-1], rel=1e-6)
    assert result["images"] == 360


def test_evaluate_raw_weights(digits):
    folder, _ = digits
    run_here(
        "evaluate.py", "checkpoint=run/checkpoints/last.ckpt", "weights=raw", "hydra.run.dir=raw", cwd=folder.parent
    )
    result = yaml.safe_load((folder.parent / "raw" / "evaluation.json").read_text())
    assert result["top1"] == pytest.approx(values(read_csv(folder), "val_raw/top1")[-1], abs=1e-9)


@pytest.mark.slow
def test_same_seed_same_metrics(tmp_path):
    for name, seed, how in (("a", 3, run), ("b", 3, run_here), ("c", 4, run_here)):
        how(
            "train.py",
            *TINY,
            "augment=paper",
            "model.drop_path_rate=0.1",
            "trainer.log_every_n_steps=1",
            f"seed={seed}",
            f"hydra.run.dir={name}",
            cwd=tmp_path,
        )

    def without_times(name):
        return [
            {key: value for key, value in row.items() if key != "images_per_second"}
            for row in read_csv(tmp_path / name)
        ]

    assert without_times("a") == without_times("b")
    assert without_times("a") != without_times("c")


@pytest.mark.slow
def test_resume_goes_on(tmp_path):
    run_here("train.py", *TINY, "hydra.run.dir=whole", cwd=tmp_path)
    run_here("train.py", *TINY, "resume=whole/checkpoints/previous.ckpt", "hydra.run.dir=second", cwd=tmp_path)
    whole, second = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "second")
    )
    first = torch.load(tmp_path / "whole" / "checkpoints" / "previous.ckpt", weights_only=True)
    assert first["global_step"] == 4
    assert second["global_step"] == whole["global_step"] == 8
    for key, value in whole["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][key], value, rtol=0, atol=0)


@pytest.mark.slow
def test_every_job_of_a_sweep_has_its_folder_and_a_failed_one_ends_alone(tmp_path):
    done = run(
        "train.py",
        "-m",
        "model.attention.num_landmarks=10,4",
        *TINY,
        "trainer.max_epochs=1",
        cwd=tmp_path,
        expect=1,
    )
    assert "num_landmarks=10 is not a square number" in done.stderr
    assert "Traceback" not in done.stderr
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "num_landmarks=10 is not a square number" in failed
    assert done.stderr.splitlines()[-1] == failed  # nothing of Hydra's own below it
    assert "1 of 2 runs finished" in done.stdout
    (sweep,) = (tmp_path / "outputs" / "soft_pico-fake").iterdir()
    assert {path.name for path in sweep.iterdir() if path.name.isdigit()} == {"0", "1"}
    assert "num_landmarks: 4\n" in (sweep / "1" / "config.yaml").read_text()
    assert values(read_csv(sweep / "1"), "val/top1")
    assert (sweep / "1" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.slow
def test_sweep_of_distributed_jobs(tmp_path):
    """Each job has as many processes as its own settings say."""
    run(
        "train.py",
        "-m",
        "trainer=cpu_ddp",
        "trainer.devices=1,2",
        *TINY,
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1",
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )
    for number, devices in ((0, 1), (1, 2)):
        folder = tmp_path / "sweep" / str(number)
        assert json.loads((folder / "result.json").read_text())["facts"]["devices"] == devices
        assert len(values(read_csv(folder), "grad_norm")) == 4
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {"0", "1", "multirun.yaml", "report"}


@pytest.fixture
def imagenet_tree(tmp_path):
    """Return a folder with train/ and val/ of two classes, and with the file formats that occur in ImageNet."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for split, count in (("train", 8), ("val", 4)):
        for label, photo in enumerate(photos):
            folder = tmp_path / "imagenet" / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for number in range(count):
                image = photo.crop((number, number, 500 + number, 375 + number))
                mode = ("RGB", "L", "CMYK", "PNG")[number % 4]
                if mode == "PNG":
                    image.save(folder / f"{number}.JPEG", format="PNG")
                else:
                    image.convert(mode).save(folder / f"{number}.JPEG", format="JPEG")
    return tmp_path / "imagenet"


@pytest.mark.slow
def test_imagenet_tree_with_the_paper_recipe_and_wandb(imagenet_tree, tmp_path):
    done = run(
        "train.py",
        "model=soft_tiny",
        f"data.root={imagenet_tree}",
        "data.batch_size=4",
        "trainer.max_steps=3",
        "data.num_workers=1",
        "logger=wandb",
        "trainer.log_every_n_steps=1",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert "16 training and 8 validation images, 2 classes, 224x224 px" in done.stdout
    assert "Note:" in done.stdout  # says that the data is not ImageNet-1K
    rows = read_csv(tmp_path / "run")
    assert len(values(rows, "train/loss")) == 3
    assert values(rows, "val/top1")

    (path,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    # The command that W&B itself has to read a run.
    reader = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json"]
    summary = json.loads(
        subprocess.run([*reader, "--summary", path], capture_output=True, text=True, check=True).stdout
    )
    lines = subprocess.run([*reader, path], capture_output=True, text=True, check=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert summary["config"]["model"]["name"] == "soft_tiny"
    assert summary["config"]["derived"]["lr_scaled"] == pytest.approx(1e-3 * 4 / 1024)
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    losses = [item["train/loss"] for item in history if "train/loss" in item]
    assert losses == pytest.approx(values(rows, "train/loss"))
    (top1,) = [item["val/top1"] for item in history if "val/top1" in item]
    (best,) = [
        r["summary"]["update"]["val/top1"] for r in records if "val/top1" in r.get("summary", {}).get("update", {})
    ]
    assert best == {"max": top1}
    assert records[-1]["exit"]["exit_code"] == 0


def test_wandb_disabled_leaves_the_run_as_it_is(tmp_path):
    run_here(
        "train.py",
        *TINY,
        "schedule.epochs=1",
        "logger=wandb",
        "logger.wandb.mode=disabled",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert not (tmp_path / "run" / "wandb").exists() or not any((tmp_path / "run" / "wandb").rglob("*.wandb"))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 1
    assert values(read_csv(tmp_path / "run"), "val/top1")
    shutil.rmtree(tmp_path / "run")


def test_precision_and_accumulation(tmp_path):
    run_here(
        "train.py",
        *TINY,
        "schedule.epochs=1",
        "trainer.precision=bf16-mixed",
        "trainer.max_batch_per_device=4",
        "trainer.log_every_n_steps=1",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    losses = values(read_csv(tmp_path / "run"), "train/loss")
    assert np.isfinite(losses).all()
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Return the folder of a run on two gloo processes, with a validation set that they share unevenly."""
    cwd = tmp_path_factory.mktemp("ddp")
    run(
        "train.py",
        *TINY,
        "data.val_images=41",
        "data.val_batch_size=20",
        "trainer=cpu_ddp",
        "trainer.log_every_n_steps=1",
        "hydra.run.dir=run",
        cwd=cwd,
    )
    return cwd / "run"


def test_two_processes_take_the_steps_of_one(two_processes):
    rows = read_csv(two_processes)
    assert len(values(rows, "grad_norm")) == 8
    assert torch.load(two_processes / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert [path.name for path in two_processes.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("trainer", ["cpu", slow("cpu_ddp")])
def test_any_number_of_processes_evaluates_each_image_once(two_processes, trainer):
    run(
        "evaluate.py",
        "checkpoint=run/checkpoints/last.ckpt",
        f"trainer={trainer}",
        f"hydra.run.dir={trainer}",
        cwd=two_processes.parent,
    )
    result = yaml.safe_load((two_processes.parent / trainer / "evaluation.json").read_text())
    assert result["top1"] == pytest.approx(values(read_csv(two_processes), "val/top1")[-1], abs=1e-5)
    assert result["images"] == 41
    with (two_processes.parent / trainer / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(index) for index in range(41)]
    right = sum(row["label"] == row["class"] for row in rows)
    assert 100 * right / 41 == pytest.approx(result["top1"], abs=1e-4)


def test_evaluate_a_file_in_the_authors_names(digits, tmp_path):
    """Only weights under the released key names: model and data come from the command line."""
    from soft.models.checkpoints import read_weights
    from soft.models.key_names import to_official_keys

    folder, _ = digits
    weights = to_official_keys(read_weights(folder / "checkpoints" / "last.ckpt"))
    torch.save(
        {"state_dict_ema": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "file.pth.tar"
    )
    arguments = ("evaluate.py", "checkpoint=file.pth.tar", "hydra.run.dir=out")
    assert "add model=soft_tiny" in run_here(*arguments, "data=digits", cwd=tmp_path, expect=2).stderr
    run_here(*arguments, "model=soft_pico", "data=digits", cwd=tmp_path)
    result = yaml.safe_load((tmp_path / "out" / "evaluation.json").read_text())
    assert result["top1"] == pytest.approx(values(read_csv(folder), "val/top1")[-1], abs=1e-9)
