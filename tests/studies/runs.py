"""A made-up folder of one run, with figures that the tests know."""

import json
from pathlib import Path

from PIL import Image

from soft.runs.folder import mark_run
from soft.studies.run_files import read_config
from tests.studies.sweeps import write_run

METRICS = """\
epoch,step,lr,images_per_second,train/loss,train/loss_epoch,val/loss,val/top1,val_raw/top1,attention/share_stage1,newton/residual_stage1
0,1,0.1,300,2.0,,,,,,
0,3,0.2,300,1.5,,,,,,
0,3,,,,,1.4,60.0,61.0,0.3,1e-5
0,3,,,,1.7,,,,,
1,5,0.1,310,1.0,,,,,,
1,7,,,,,0.9,80.0,79.0,0.4,2e-6
1,7,,,,1.2,,,,,
2,9,0.05,320,0.8,,,,,,
2,11,,,,,0.95,78.0,77.0,0.41,1e-6
2,11,,,,0.9,,,,,
"""
# Images by class (rows) and answer.
CONFUSION = {"cat": {"cat": 3, "dog": 1}, "dog": {"dog": 4}}


def write_single_run(folder: Path, finished: bool = True, attention: str = "soft", **changes: object) -> Path:
    """Write a run of three epochs whose best top-1 is 80 %; `changes` as for `write_run`."""
    typed = ("schedule.epochs=3", f"model/attention={attention}")
    changes = {"data__mean": [0.5, 0.5, 0.5], "trainer__max_epochs": 3, **changes}
    options = {} if attention == "soft" else {"model__attention": {"attention": attention}}
    write_run(folder, 80.0, typed=typed, share=0.41, **options, **changes)
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "train.log").write_text(
        "[2026-01-02 03:04:05,678][soft][INFO] begun\n[2026-01-02 03:05:00][soft] <ended>\n"
    )
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
    mark_run(folder, read_config(folder))
    if not finished:
        (folder / "result.json").unlink()
        lines = METRICS.splitlines(keepends=True)
        (folder / "metrics.csv").write_text("".join(lines[:7]))
    return folder


def write_evaluation(folder: Path, checkpoint: Path, **more: object) -> None:
    """Write the files of an evaluation of seven images, of which one was mistaken."""
    folder.mkdir(parents=True)
    result = {"top1": 87.5, "top5": 100.0, "loss": 0.5, "ece": 7.25, "images": 8, "images_per_second": 99.0}
    result |= {
        "data": "digits",
        "weights": "ema",
        "settings": {},
        "precision": "32-true",
        "device": "cpu",
        "devices": 1,
    }
    result |= {"checkpoint": str(checkpoint), "notes": ["a word about it"], **more}
    (folder / "evaluation.json").write_text(json.dumps(result))
    rows = [(label, answer) for label, answers in CONFUSION.items() for answer, n in answers.items() for _ in range(n)]
    lines = [f"{i},{label},{answer},0.{i + 1},0.1" for i, (label, answer) in enumerate(rows)]
    (folder / "predictions.csv").write_text(
        "\n".join(["file,label,class,probability,label_probability", *lines]) + "\n"
    )
    (folder / "per_class.csv").write_text(
        "class,images,correct,top1,answers,precision,confused_with,confused\n"
        "dog,4,4,100,5,80,,0\ncat,4,3,75,3,100,dog,1\nowl,0,0,,0,,,0\n"
    )
    (folder / "confusion.csv").write_text("class,cat,dog\ncat,3,1\ndog,0,4\n")
    Image.new("RGB", (900, 300), "red").save(folder / "mistakes.png")


def write_maps(folder: Path, checkpoint: Path) -> None:
    """Write the files of attention maps."""
    folder.mkdir(parents=True)
    Image.new("RGB", (1600, 900), "blue").save(folder / "attention_maps.png")
    facts = {"image": "0", "checkpoints": [str(checkpoint)], "weights": "ema", "notes": ["maps are alike"]}
    (folder / "attention_maps.json").write_text(json.dumps(facts))
