"""The files of a report."""

import csv

from PIL import Image

from soft.studies.figures import figures
from soft.studies.report import write_report
from soft.studies.rows import aggregate
from soft.studies.runs import read_sweep, varying_settings
from tests.studies.sweeps import newton_sweep, write_run


def drawn(folder):
    runs = read_sweep(folder).runs
    return {figure.file: figure for figure in figures(aggregate(runs, varying_settings(runs)))}


def test_report_holds_table_figures_and_conditions(tmp_path):
    out = tmp_path / "out"
    screen = write_report(newton_sweep(tmp_path / "sweep"), out)
    text = (out / "report.md").read_text()
    for expected in (
        "# Iterations & inverses",
        "Reproduces: a table.",
        "`python src/train.py -m experiments=newton_iterations",
        "1 x a processor",
        "torch 2.15.0",
        "commit abc123",
        "90.50 ± 0.71",
        "79.3",
        "1.26 M",
        "18.9 M",
        "380",
        "1024",
        "0, 1",
        "not in the table: run 8.",
    ):
        assert expected in text, expected
    assert "91.50 ± 0.71" in screen
    assert "| 1 " in screen
    assert {path.name for path in out.iterdir()} == {
        "report.md",
        "report.html",
        "table.csv",
        "table.tex",
        "top1_newton_iters.png",
        "residual_newton_iters.png",
        "top1_images_per_second.png",
    }
    for picture in out.glob("*.png"):
        assert f"({picture.name})" in text
        assert Image.open(picture).size[0] == 1650


def test_csv_holds_full_figures(tmp_path):
    write_report(newton_sweep(tmp_path / "sweep"), tmp_path / "out", page=False)
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["model.attention.newton_iters"] == "5"
    assert (rows[1]["top1"], rows[1]["seeds"], rows[1]["params"]) == ("80.5", "0 1", "1265000.0")
    assert float(rows[1]["residual_stage2"]) == 5e-6
    assert (rows[2]["paper_top1"], rows[3]["paper_top1"]) == ("79.3", "")
    assert not (tmp_path / "out" / "report.html").exists()


def test_latex_escapes(tmp_path):
    write_report(newton_sweep(tmp_path / "sweep"), tmp_path / "out", page=False)
    text = (tmp_path / "out" / "table.tex").read_text()
    assert r"\caption{Iterations \& inverses}" in text
    assert r"90.50 $\pm$ 0.71" in text
    assert r"top-1 (\%)" in text


def test_iterations_are_drawn_against_exact_inverses(tmp_path):
    top1 = drawn(newton_sweep(tmp_path))["top1_newton_iters"]
    (series,) = top1.series
    assert (series.name, series.x, series.y) == ("newton", [1, 5, 20], [70.5, 80.5, 90.5])
    assert top1.references == [("svd", 91.5)]
    assert top1.lines
    assert top1.ticks == [1, 5, 20]
    residual = drawn(tmp_path)["residual_newton_iters"]
    assert residual.log_y
    assert [one.name for one in residual.series] == ["newton, stage 1", "newton, stage 2", "newton, stage 3"]


def test_words_are_drawn_by_name(tmp_path):
    for number, (sampling, top1) in enumerate((("conv", 80.0), ("random", 70.0))):
        write_run(tmp_path / str(number), top1, model__attention__sampling=sampling)
    (series,) = drawn(tmp_path)["top1_sampling"].series
    assert (series.x, series.y) == (["conv", "random"], [80.0, 70.0])


def test_a_search_is_drawn_as_points(tmp_path):
    for number in range(12):
        write_run(
            tmp_path / str(number), 80.0 + number, optimizer__lr=0.002 * 1.4**number, optimizer__weight_decay=number
        )
    figure = drawn(tmp_path)["top1_lr"]
    assert len(figure.series) == 1
    assert len(figure.series[0].x) == 12
    assert not figure.lines
    assert figure.log_x


def test_one_run_alone_has_a_report(tmp_path):
    write_run(tmp_path / "sweep" / "0", 80.0)
    assert "80.00" in write_report(tmp_path / "sweep", tmp_path / "out", page=False)
