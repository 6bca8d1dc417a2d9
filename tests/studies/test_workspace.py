"""The dashboard as it would be sent, without an account."""

from pathlib import Path

from soft.studies.study import Study, read_studies
from soft.studies.workspace import build_report, build_workspace, outline, to_json

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def test_every_study_that_trains_gets_a_report():
    for study in read_studies(EXPERIMENTS):
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
    check_heat_map(shown["Best top-1 over landmarks m and iterations T"]["config"])
    assert shown["Images per second"]["config"]["metrics"] == ["images_per_second"]
    by_stage = [panel["config"] for title, panel in shown.items() if title and "stage" in title]
    names = ("attention/share", "attention/kernel_mean", "newton/residual")
    assert [panel["metrics"] for panel in by_stage] == [[f"{name}_stage{i}" for i in (1, 2, 3)] for name in names]
    assert all(panel["yLogScale"] for panel in by_stage)
    (runs,) = view["runSets"]
    assert runs["grouping"] == [{"section": "run", "name": "group"}]


def check_heat_map(config):
    assert (config["xAxis"], config["yAxis"], config["zAxis"]) == (
        "config:model.value.attention.num_landmarks",
        "config:model.value.attention.newton_iters",
        "summary:val/top1.max",
    )
    assert [point["color"] for point in config["customGradient"]] == ["#440154", "#21918c", "#fde725"]


def test_a_study_of_two_numbers_has_a_heat_map():
    keys = ("model.attention.num_landmarks", "model.attention.newton_iters")
    for numeric, count in ((keys, 1), (keys[:1], 0)):
        study = Study(name="both", title="Both", source="none", varied=keys, numeric=numeric)
        blocks = to_json(build_report(study, "me", "soft"))["spec"]["blocks"]
        grids = [block["metadata"] for block in blocks if "metadata" in block]
        shown = panels(panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"])
        found = [panel["config"] for title, panel in shown.items() if title and title.startswith("Best top-1 over")]
        assert len(found) == count
        for config in found:
            check_heat_map(config)


def test_report_of_a_study():
    (study,) = read_studies(EXPERIMENTS, "landmarks")
    report = build_report(study, "me", "soft")
    blocks = to_json(report)["spec"]["blocks"]
    grids = [block["metadata"] for block in blocks if "metadata" in block]
    for grid in grids:
        (runs,) = grid["runSets"]
        assert runs["filters"]["filters"][0]["value"] == ["landmarks"]
        names = ("num_landmarks", "attention")
        assert runs["grouping"] == [{"section": "config", "name": f"model.value.attention.{name}"} for name in names]
    shown = panels(panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"])
    assert shown["Best top-1 by landmarks m"]["config"]["metrics"] == ["summary_metrics.val/top1.max"]
    assert "experiments=landmarks" in str(blocks)
    assert "top1 79.3" in str(blocks)
    assert report.blocks[-1].runsets[0].project == "soft"  # to_json leaves it as it is
    assert "    Validation top-1 (%): val/top1 over epoch" in list(outline(report))
