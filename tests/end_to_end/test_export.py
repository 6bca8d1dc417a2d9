"""`python src/export.py`, and `python src/evaluate.py optimise=true`, on a checkpoint of a short run."""

import json

import pytest
import torch

from soft.models.factory import create_from_checkpoint
from tests.end_to_end.command import run_fresh, run_here
from tests.golden import relative_error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with last.ckpt after three steps on the digits."""
    folder = tmp_path_factory.mktemp("export")
    words = ("trainer.max_steps=3", "logger=csv", "hydra.run.dir=run")
    # Three of Newton's steps are traced in less time than twenty.
    run_here("train.py", *words, "model.attention.newton_iters=3", cwd=folder)
    (folder / "run" / "checkpoints" / "last.ckpt").rename(folder / "last.ckpt")
    return folder


@pytest.mark.slow
def test_a_program_that_needs_pytorch_alone(folder):
    done = run_fresh("export.py", "checkpoint=last.ckpt", "hydra.run.dir=out", cwd=folder)
    assert "out/model.pt2: images (B, 3, 32, 32) -> logits (B, 10)" in done.stdout
    assert "standard deviation" in done.stdout
    assert "Warning" not in done.stderr
    program = torch.export.load(folder / "out" / "model.pt2").module()
    model = create_from_checkpoint(folder / "last.ckpt").eval()
    for batch in (1, 3):
        images = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            assert relative_error(program(images), model(images)) < 5e-6


def test_evaluated_as_exported(folder):
    figures = {}
    for name, optimise in {"exact": "false", "optimised": "true"}.items():
        run_here("evaluate.py", "checkpoint=last.ckpt", f"optimise={optimise}", f"hydra.run.dir={name}", cwd=folder)
        figures[name] = json.loads((folder / name / "evaluation.json").read_text())
    assert figures["optimised"]["loss"] == pytest.approx(figures["exact"]["loss"], rel=1e-5)
    assert figures["optimised"]["top1"] == pytest.approx(figures["exact"]["top1"], abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["checkpoint=nowhere.ckpt"], "nowhere.ckpt"),
        (["checkpoint=last.ckpt", "img_size=many"], "img_size='many' has to be a whole number of pixels"),
        ([], "checkpoint has no value; add checkpoint="),
    ],
    ids=["checkpoint", "size", "no checkpoint"],
)
def test_mistakes_end_in_a_sentence(arguments, text, folder):
    done = run_here("export.py", *arguments, cwd=folder, expect=2)
    assert done.stderr.startswith("ERROR: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
