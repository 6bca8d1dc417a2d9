"""The Python that the documentation shows does what the pages say, and so does the notebook."""

import inspect
import json
import re
import runpy
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image

import soft
from soft.attention import ATTENTIONS
from soft.data.datasets import BUILDERS
from soft.export.torch_program import export_program
from tests.attention import test_registry
from tests.docs.pages import PAGES, ROOT, blocks
from tests.export.small_model import small_model

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
DOCS = ROOT / "docs"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")


def run(text: str) -> dict[str, object]:
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(text, "block", "exec"), namespace)
    return namespace


def test_every_page_with_code_is_run_here():
    shown = {page.name for page in PAGES if blocks(page, "python")}
    assert shown == {"README.md", "after_training.md", "own_attention.md", "own_data.md", "python.md", "transfer.md"}


@pytest.mark.slow
def test_the_readmes_python(capsys, tmp_path):
    (block,) = blocks(ROOT / "README.md", "python")
    assert blocks(DOCS / "python.md", "python") == [block]
    run(block.text)
    assert re.search(r"\{'top1': \d", capsys.readouterr().out)
    assert (tmp_path / "maps.png").stat().st_size > 10_000
    assert (tmp_path / "outputs" / "first" / "checkpoints" / "best.ckpt").is_file()


def test_own_data():
    _, block = blocks(DOCS / "own_data.md", "python")
    data = run(block.text)["data"]
    assert isinstance(data, soft.ImageDataModule)


def test_own_data_in_code(monkeypatch, tmp_path):
    block, _ = blocks(DOCS / "own_data.md", "python")
    monkeypatch.setitem(BUILDERS, "csv_file", None)  # taken out again in the end
    run(block.text)
    rows = ["file,label,part"]
    for number in range(12):
        Image.new("RGB", (40, 40), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'dark' if number < 6 else 'light'},{'val' if number % 3 == 0 else 'train'}")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    data = soft.ImageDataModule("csv_file", root=tmp_path, img_size=32, batch_size=4, num_workers=0)
    assert data.validation_images(9).shape == (4, 3, 32, 32)
    assert data.class_names == ["dark", "light"]
    data.setup()
    assert [len(batch.labels) for batch in data.train_dataloader()] == [4, 4]


@pytest.mark.slow
def test_a_program_on_another_device(tmp_path):
    block, _ = blocks(DOCS / "after_training.md", "python")
    export_program(small_model(), tmp_path / "model.pt2", (32, 48))
    moved = run(block.text.replace('"cuda"', '"meta"'))["model"]
    assert moved(torch.empty(2, 3, 32, 48, device="meta")).shape == (2, 3)


def test_after_training(capsys):
    _, block = blocks(DOCS / "after_training.md", "python")
    run(block.text)
    sizes = [line.split(", ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert sizes == ["56])", "28])", "14])", "7])"]


def test_transfer(capsys):
    (block,) = blocks(DOCS / "transfer.md", "python")
    run(block.text)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first in block.text
    assert last == "32 (1, 512, 12, 16)"


@pytest.mark.slow
def test_cost_against_pixels():
    """The page's table is what its script counts."""
    page, transfer = (DOCS / "transfer.md").read_text(), runpy.run_path(str(DOCS / "transfer.py"))
    assert "(transfer.png)" in page
    for options in transfer["PYRAMIDS"].values():
        costs = transfer["giga_macs"](options)
        by_size = dict(zip(transfer["SIZES"], costs, strict=True))
        shown = [by_size[size] for size in ((224, 224), (512, 512), (800, 1333), (1600, 2666))]
        row = " | ".join(f"{cost:,.1f}" for cost in shown)
        assert f"| {row} | pixels^{transfer['slope'](costs):.2f} |" in page


def test_own_attention(capsys, monkeypatch):
    """The page's attention passes the tests that it names."""
    module, entry, use = blocks(DOCS / "own_attention.md", "python")
    monkeypatch.setattr("soft.attention.ATTENTIONS", ATTENTIONS)
    monkeypatch.setitem(ATTENTIONS, "elu", None)  # taken out again in the end
    run("from soft.attention import ATTENTIONS\n" + module.text + entry.text)
    run(use.text)
    assert "torch.Size([2, 10])" in capsys.readouterr().out
    tried = 0
    for test in vars(test_registry).values():
        if inspect.isfunction(test) and test.__name__.startswith("test_every"):
            marks = {mark.args[0]: mark.args[1] for mark in getattr(test, "pytestmark", ())}
            others = {name: values[0] for name, values in marks.items() if name != "name"}
            if "name" in marks and set(inspect.signature(test).parameters) == {"name", *others}:
                test(name="elu", **others)
                tried += 1
    test_registry.test_rows_of_the_attention_map_times_v_are_the_output_without_a_local_convolution("elu", (8, 6))
    assert tried >= 2


def test_figures_of_the_method(monkeypatch):
    method = runpy.run_path(str(DOCS / "method.py"))
    exact = method["smooth_tokens"]()
    kernel = method["gaussian_kernel"](exact, exact)[0, 0]
    error = ((method["approximate"](exact, 8) - kernel).norm() / kernel.norm()).item()
    assert f"relative error is\n{error:.2f}" in (DOCS / "method.md").read_text()
    for name in method["FIGURES"]:
        assert f"method_{name}.png" in (DOCS / "method.md").read_text()


@pytest.mark.slow
def test_notebook(capsys, tmp_path, monkeypatch):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert "hydra" not in "".join(code).lower()
    (parameter,) = re.findall(r"^EPOCHS = \d+.*$", "".join(f"{cell}\n" for cell in code), re.MULTILINE)
    torch.manual_seed(0)  # after one epoch, top-1 lies between 30 and 80 %, depending on the weights at the start
    namespace = run("\n".join(cell.replace(parameter, "EPOCHS = 2") for cell in code))
    assert namespace["fitted"].metrics["val/top1"] > 80
    assert (tmp_path / "outputs" / "quickstart" / "checkpoints" / "best.ckpt").is_file()
    assert ".png: " in capsys.readouterr().out


def test_the_notebook_was_run_as_it_stands():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    assert str(Path(sys.prefix).parent) not in NOTEBOOK.read_text()
