"""`python src/benchmark.py`, at sizes too small for meaningful figures."""

import csv
import re
import time

import pytest
from PIL import Image

from tests.end_to_end.command import run_fresh

ATTENTION = (
    "attention.model=soft_pico",
    "attention.names=[soft]",
    "attention.layouts=[tokens]",
    "attention.batch_size=2",
    "attention.tokens=[64,256]",
    "attention.slope_from=64",
    "attention.num_landmarks=9",
    "attention.pyramid=[224]",
    "attention.rounds=1",
)
MODEL = ("model.names=[soft_pico]", "model.img_sizes=[32]", "model.batch_sizes=[4]", "model.rounds=1")
LOADER = ("loader.images=8", "loader.batch_size=8", "loader.size=[64,48]", "loader.rounds=1")


def _read(path) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the facts above a table's header, and the table's rows."""
    lines = path.read_text().splitlines()
    facts = dict(re.fullmatch(r"# (\w+): (.+)", line).groups() for line in lines if line.startswith("#"))
    return facts, list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.slow
def test_every_table_and_figure(tmp_path):
    done = run_fresh(
        "benchmark.py",
        "parts=[attention,model,loader]",
        "threads=1",
        "hydra.run.dir=run",
        *(*ATTENTION, *MODEL, *LOADER),
        cwd=tmp_path,
    )
    folder = tmp_path / "run"
    facts, stages = _read(folder / "attention_stages.csv")
    assert {"machine", "threads", "device", "torch", "timm", "lightning", "commit"} <= set(facts)
    assert facts["threads"] == "1"
    assert facts["machine"].endswith("cores")
    assert [row["stage"] for row in stages] == ["1", "2", "3"]
    assert all(float(row["train_speedup"]) > 0 and float(row["plain_peak_mib"]) > 0 for row in stages)

    _, growth = _read(folder / "attention_growth.csv")
    assert [(row["attention"], row["tokens"]) for row in growth] == [
        (name, tokens) for name in ("soft", "torch sdpa") for tokens in ("64", "256")
    ]
    _, slopes = _read(folder / "attention_slopes.csv")
    assert [row["attention"] for row in slopes] == ["soft", "torch sdpa"]
    for picture in ("attention_growth.png", "pyramid.png"):
        assert Image.open(folder / picture).size[0] >= 1000

    _, models = _read(folder / "models.csv")
    assert [row["mode"] for row in models] == ["train", "inference"]
    train, inference = ({key: row[key] for key in row} for row in models)
    # A training step takes three times as many, and computes the MLP's hidden activations and P once more.
    assert 2.7 < float(train["gflop"]) / float(inference["gflop"]) < 3.4
    assert 0 < float(train["percent_of_product"]) < 100
    assert float(train["memory_ratio"]) == pytest.approx(float(train["peak_mib"]) / float(train["plain_peak_mib"]))

    _, loaders = _read(folder / "loader.csv")
    assert [row["augment"] for row in loaders] == ["light", "paper"]
    assert all(float(row["ours_images_per_s"]) > 0 for row in loaders)

    _, targets = _read(folder / "targets.csv")
    assert {"loader, augment=light: times timm's", "soft, slope of memory, 64 to 256 tokens"} <= {
        row["what"] for row in targets
    }
    for text in ("machine", "Attention in the stages of soft_pico", "soft against torch sdpa", "Targets", "run"):
        assert text in done.stdout
    assert "attention: soft, 256 tokens" in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.slow
def test_overhead(tmp_path):
    """Nothing measured here is longer than all of it was: how one time compares with another depends on the machine."""
    began = time.monotonic()
    run_fresh(
        "benchmark.py",
        "parts=[overhead]",
        "overhead.rounds=2",
        "overhead.steps=3",
        "overhead.starts=1",
        "overhead.train=['data=fake','data.train_images=64','data.batch_size=16']",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    _, rows = _read(tmp_path / "run" / "overhead.csv")
    measured = {row["what"]: float(row["measured"]) for row in rows}
    overhead = measured.pop("overhead of a step (%)")
    assert len(measured) == 4
    assert all(value > 0 for value in measured.values())
    starts = measured["--cfg job (s)"] + measured["first training step begins (s)"]
    steps = 2 * 3 * (measured["training step (ms)"] + measured["step of a bare PyTorch loop (ms)"]) / 1000
    assert starts + steps < time.monotonic() - began
    assert overhead > -100
