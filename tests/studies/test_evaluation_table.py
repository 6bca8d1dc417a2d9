"""The table at the end of a sweep of evaluations."""

import csv
import json

import yaml

from soft.studies.evaluation_table import write_evaluation_table


def write(folder, top1, *words, **more):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["checkpoint=a.ckpt", "hydra.x=1", *words]))
    evaluation = {"top1": top1, "top5": 100.0, "loss": 0.5, "images_per_second": None, **more}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def test_settings_that_differ_are_columns(tmp_path):
    folders = [
        write(tmp_path / "0", 47.5, "model.attention.newton_iters=2", ece=3.25),
        write(tmp_path / "1", 96.0, "model.attention.newton_iters=20", "weights=raw"),
    ]
    assert write_evaluation_table(folders, tmp_path).splitlines() == [
        "| model.attention.newton_iters | weights | top-1 (%) | top-5 (%) | loss   | calibration error (%) |",
        "| ---------------------------- | ------- | --------- | --------- | ------ | --------------------- |",
        "| 2                            |         | 47.50     | 100.00    | 0.5000 | 3.25                  |",
        "| 20                           | raw     | 96.00     | 100.00    | 0.5000 |                       |",
    ]
    with (tmp_path / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model.attention.newton_iters"], float(row["top1"])) for row in rows] == [("2", 47.5), ("20", 96.0)]
    assert rows[1]["file"] == str(tmp_path / "1" / "evaluation.json")
    assert "checkpoint" not in rows[0]
