"""The dashboard as it would be sent, without an account."""

from pathlib import Path

import pytest

from soft.errors import SettingError
from soft.studies.workspace import build_report, build_workspace, outline, read_studies, to_json

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def test_every_study_that_trains_gets_a_report():
    studies = {study.name: study for study in read_studies(EXPERIMENTS)}
    assert set(studies) == {path.stem for path in EXPERIMENTS.glob("*.yaml")} - {"sequence_length"}
    assert studies["landmarks"].varied == ("model.attention.num_landmarks",)
    assert studies["model_sizes"].varied == ("model.depths", "model.name")
    with pytest.raises(SettingError, match=r"study=landmark trains nothing; it is one of .*landmarks"):
        read_studies(EXPERIMENTS, "landmark")
    for study in studies.values():
        assert to_json(build_report(study, "me", "soft"))["displayName"] == study.title


def panels(grid):
    return {panel["config"].get("chartTitle"): panel for panel in grid}


def test_workspace():
    view = to_json(build_workspace("me", "soft"))["spec"]["section"]
    shown = panels(panel for section in view["panelBankConfig"]["sections"] for panel in section["panels"])
    axes = [column["accessor"] for column in shown["Settings against best top-1"]["config"]["columns"]]
    assert axes == [
        "config:model.value.attention.num_landmarks",
        "config:model.value.attention.newton_iters",
        "summary:val/top1.max",
    ]
    assert shown["Images per second"]["config"]["metrics"] == ["images_per_second"]
    (residuals,) = (panel["config"] for title, panel in shown.items() if title and "stage" in title)
    assert residuals["metrics"] == [f"newton/residual_stage{stage}" for stage in (1, 2, 3)]
    assert residuals["yLogScale"]
    (runs,) = view["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]


def test_report_of_a_study():
    (study,) = read_studies(EXPERIMENTS, "landmarks")
    report = build_report(study, "me", "soft")
    blocks = to_json(report)["spec"]["blocks"]
    grids = [block["metadata"] for block in blocks if "metadata" in block]
    for grid in grids:
        (runs,) = grid["runSets"]
        assert runs["filters"]["filters"][0]["value"] == ["landmarks"]
        assert runs["grouping"] == [{"section": "config", "name": "model.value.attention.num_landmarks"}]
    shown = panels(panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"])
    assert shown["Best top-1 by landmarks m"]["config"]["metrics"] == ["summary_metrics.val/top1.max"]
    assert "experiments=landmarks" in str(blocks)
    assert "top1 79.3" in str(blocks)
    assert report.blocks[-1].runsets[0].project == "soft"  # to_json leaves it as it is
    assert "    Validation top-1 (%): val/top1 over epoch" in list(outline(report))
