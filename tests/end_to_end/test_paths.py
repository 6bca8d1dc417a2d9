"""Folders and files may have any name, and a command that is printed can be pasted into a shell."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from tests.end_to_end.command import run
from tests.invoke import invoke

NAME = "a=b, (c) [d] {e} #f & o'neill! ~g é 日本"
SHORT = ("schedule.epochs=1", "schedule.warmup_epochs=0", "model.attention.newton_iters=3")
SMALL = ("data.batch_size=4", "data.img_size=32", "data.num_workers=0", *SHORT)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Return a folder with class folders, a picture and a run, all of that name."""
    folder = tmp_path_factory.mktemp("paths") / NAME
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    for place in ("train/a", "train/b", "val/a", "val/b"):
        (folder / NAME / place).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(pixels).save(folder / NAME / place / f"{number}.png")
    Image.fromarray(pixels).save(folder / f"{NAME}.png")
    done = invoke(
        "train.py",
        *("data=imagenet", f"data.root={NAME}", *SMALL, "trainer=cpu", f"hydra.run.dir=runs {NAME}/{NAME}"),
        cwd=folder,
    )
    assert done.returncode == 0, done
    (folder / "printed").write_text(done.stdout)
    shutil.copy(folder / f"runs {NAME}" / NAME / "checkpoints" / "best.ckpt", folder / f"{NAME}.ckpt")
    return folder


def pasted(printed: str, script: str) -> list[str]:
    """Return the words that bash makes of the command `python src/SCRIPT ...` in what was printed."""
    (typed,) = re.findall(rf"python src/{re.escape(script)} (.*)", printed)
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {typed}"], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_train_prints_a_command_that_evaluates(here):
    words = pasted((here / "printed").read_text(), "evaluate.py")
    assert words == [f"checkpoint=runs {NAME}/{NAME}/checkpoints/best.ckpt"]
    done = invoke("evaluate.py", *words, "trainer=cpu", f"output_dir=evaluated {NAME}", cwd=here)
    assert done.returncode == 0, done
    assert (here / f"evaluated {NAME}" / "evaluation.json").is_file()


def test_evaluate_a_file_on_other_data(here):
    done = invoke("evaluate.py", f"checkpoint={NAME}.ckpt", f"data.root={NAME}", "trainer=cpu", cwd=here)
    assert done.returncode == 0, done
    assert NAME in done.stdout


@pytest.mark.slow
def test_export_at_another_size(here):
    words = ("img_size=[32,48]", "weights=raw", f"hydra.run.dir=exported {NAME}")
    done = invoke("export.py", f"checkpoint={NAME}.ckpt", *words, cwd=here)
    assert done.returncode == 0, done
    program = torch.export.load(here / f"exported {NAME}" / "model.pt2").module()
    assert program(torch.randn(2, 3, 32, 48)).shape == (2, 2)


@pytest.mark.parametrize("checkpoint", [f"{NAME}.ckpt", f'["{NAME}.ckpt"]'])
def test_visualize(checkpoint, here):
    folder = f"maps of {len(checkpoint)} {NAME}"
    words = (f"image={NAME}.png", f"checkpoint={checkpoint}", f"hydra.run.dir={folder}")
    done = invoke("visualize.py", *words, cwd=here)
    assert done.returncode == 0, done
    assert (here / folder / "attention_maps.png").is_file()


@pytest.mark.parametrize("images", [f"{NAME}.png", f"{NAME}/val"])
def test_predict(images, here):
    folder = f"predicted {len(images)} {NAME}"
    words = (f"checkpoint={NAME}.ckpt", f"images={images}", f"hydra.run.dir={folder}", "accelerator=cpu")
    done = invoke("predict.py", *words, cwd=here)
    assert done.returncode == 0, done
    assert (here / folder / "predictions.csv").is_file()


def test_report(here):
    done = invoke("report.py", f"sweep=runs {NAME}", "page=false", cwd=here)
    assert done.returncode == 0, done
    assert (here / f"runs {NAME}" / "report" / "report.md").is_file()


def test_write_shards_prints_a_command_that_trains(here):
    done = invoke("write_shards.py", f"data.root={NAME}", f"out=shards {NAME}", cwd=here)
    assert done.returncode == 0, done
    words = pasted(done.stdout, "train.py")
    assert words == ["data=imagenet_wds", f"data.root=shards {NAME}"]
    trained = invoke("train.py", *words, *SMALL, "trainer=cpu", "preflight=true", cwd=here)
    assert trained.returncode == 0, trained


@pytest.mark.slow
def test_a_sweep_reports_and_goes_on(here):
    words = ("-m", "data=imagenet", f"data.root={NAME}", *SMALL, "trainer=cpu", "seed=0,1", f"hydra.sweep.dir=s {NAME}")
    run("train.py", *words, cwd=here)
    before = {path: path.stat().st_mtime_ns for path in (here / f"s {NAME}").glob("*/result.json")}
    assert len(before) == 2
    run("train.py", *words, cwd=here)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (here / f"s {NAME}" / "report" / "report.md").is_file()
