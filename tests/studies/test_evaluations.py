"""Evaluations of runs with other settings, as rows of a study's table."""

import json

import pytest
import yaml

from soft.studies.comparison import compare_with_reference
from soft.studies.rows import aggregate
from soft.studies.study import parse_study
from soft.studies.sweep import read_sweep, varying_settings
from soft.studies.sweep_report import write_report
from tests.studies.sweeps import write_run

T = "model.attention.newton_iters"
STUDY = {
    "title": "Iterations at evaluation",
    "scale": "laptop",
    "scales": {"laptop": {"model/attention": ["soft", "none"], "seed": [0, 1]}},
    "evaluate": {T: [1, 20]},
    "reference": {f"evaluation.{T}": 20},
}


def write_evaluation(run, number, top1, *typed):
    folder = run / "evaluations" / str(number)
    (folder / ".hydra").mkdir(parents=True)
    words = [f"checkpoint={run}/checkpoints/best.ckpt", *typed, "details=false", "trainer=cpu"]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    evaluation = {"top1": top1, "images_per_second": 5.0, "attention/share_stage1": 0.25}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))


@pytest.fixture
def evaluated(tmp_path):
    """Two seeds with attention, evaluated with T = 1 and T = 20, and two without attention."""
    for seed in (0, 1):
        soft, none = tmp_path / str(seed), tmp_path / str(seed + 2)
        write_run(soft, 95.0, seed, STUDY, model__attention={"attention": "soft", "newton_iters": 20})
        write_run(none, 10.0 + seed, seed, STUDY, model__attention={"attention": "none"})
        write_evaluation(soft, 0, 40.0 + seed, f"{T}=1")
        write_evaluation(soft, 1, 90.0 + 3 * seed, f"{T}=20")
    return tmp_path


def rows_of(folder):
    sweep = read_sweep(folder)
    return aggregate(sweep.runs, varying_settings(sweep.runs)), sweep


def test_evaluations_stand_in_the_place_of_their_runs(evaluated):
    rows, sweep = rows_of(evaluated)
    found = [(row.settings["model.attention.attention"], row.settings[f"evaluation.{T}"], row.top1) for row in rows]
    assert found == [("soft", 1, {0: 40, 1: 41}), ("soft", 20, {0: 90, 1: 93}), ("none", None, {0: 10, 1: 11})]
    assert "macs" not in rows[0].measured  # those of the training had another T
    assert "images_per_second" not in rows[0].measured
    assert rows[0].measured["attention_share_stage1"].mean == 0.25
    assert sweep.unevaluated == []


def test_evaluations_are_compared_seed_by_seed(evaluated):
    rows, sweep = rows_of(evaluated)
    first, *_ = compare_with_reference(rows, parse_study(sweep.study))
    assert first.difference.mean == pytest.approx(-51)


def test_a_missing_evaluation_is_said(evaluated):
    (evaluated / "1" / "evaluations" / "0" / "evaluation.json").unlink()
    rows, sweep = rows_of(evaluated)
    assert sweep.unevaluated == [evaluated / "1"]
    assert [row.seeds for row in rows] == [[0], [0, 1], [0, 1]]
    said = write_report(evaluated, evaluated / "report", page=False)
    assert "Not evaluated with all settings, and not or only in part in the table: run 1." in said


def test_what_the_sweep_was_started_with_last_counts(evaluated):
    asked = {T: [1, 2]}
    (evaluated / "multirun.yaml").write_text(yaml.safe_dump({"study": {**STUDY, "evaluate": asked}}))
    _, sweep = rows_of(evaluated)
    assert sweep.unevaluated == [evaluated / "0", evaluated / "1"]  # as many evaluations, and not with T = 2
    assert sweep.study["evaluate"] == asked


def test_settings_that_are_none_of_the_model_hold_for_every_run(tmp_path):
    run = tmp_path / "0"
    write_run(run, 90.0, 0, STUDY, model__attention={"attention": "none"})
    asked = {"weights": ["ema", "raw"], "data.split": ["test"]}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"study": {**STUDY, "evaluate": asked, "reference": None}}))
    assert read_sweep(tmp_path).unevaluated == [run]
    for number, weights in enumerate(("ema", "raw")):
        write_evaluation(run, number, 90.0 - number, f"weights={weights}", "data.split=test", "trainer=cpu")
    rows, sweep = rows_of(tmp_path)
    assert sweep.unevaluated == []
    assert [(row.settings["evaluation.weights"], row.top1) for row in rows] == [("ema", {0: 90}), ("raw", {0: 89})]
    assert "evaluation.trainer" not in rows[0].settings


def test_the_report_counts_each_training_once(evaluated):
    said = write_report(evaluated, evaluated / "report", page=False)
    assert "| attention | iterations T at evaluation |" in said
    report = (evaluated / "report" / "report.md").read_text()
    assert "4 runs with 2 seeds, 0.067 hours of computing" in report


def test_without_the_entry_evaluations_are_left_alone(evaluated):
    for config in evaluated.glob("*/config.yaml"):
        recipe = yaml.safe_load(config.read_text())
        del recipe["study"]["evaluate"]
        config.write_text(yaml.safe_dump(recipe))
    rows, _ = rows_of(evaluated)
    assert [row.top1 for row in rows] == [{0: 95, 1: 95}, {0: 10, 1: 11}]
