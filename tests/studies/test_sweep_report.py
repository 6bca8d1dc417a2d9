"""The files of a report."""

import csv
import json

from PIL import Image

from soft.studies.figures import build_figures
from soft.studies.plotly_figures import plot_figure
from soft.studies.rows import aggregate
from soft.studies.sweep import read_sweep, varying_settings
from soft.studies.sweep_report import write_report
from soft.studies.table_formats import latex
from soft.studies.tables import Column
from tests.studies.sweeps import VARIANTS, grid_sweep, newton_sweep, variants_sweep, write_run


def drawn(folder):
    runs = read_sweep(folder).runs
    return {figure.file: figure for figure in build_figures(aggregate(runs, varying_settings(runs)))}


def test_report_holds_table_figures_and_conditions(tmp_path):
    out = tmp_path / "out"
    screen = write_report(newton_sweep(tmp_path / "sweep"), out)
    text = (out / "report.md").read_text()
    for expected in (
        "# Iterations & inverses",
        "Reproduces: a table.",
        "`python src/train.py -m experiments=newton_iterations",
        "1 x a processor",
        "8 runs with 2 seeds, 0.13 hours of computing in all",
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
        "published.csv",
        "published.tex",
        "top1_newton_iters.png",
        "residual_newton_iters.png",
        "top1_images_per_second.png",
    }
    for picture in out.glob("*.png"):
        assert f"({picture.name})" in text
        assert Image.open(picture).size[0] == 1650


def test_nine_variants_are_told_apart_in_a_figure(tmp_path):
    for number in range(9):
        speed, name = 100.0 + number, f"variant{number}"
        folder = tmp_path / str(number)
        write_run(folder, 90.0 + number / 10, images_per_second=speed, model__attention__attention=name)
    figure = drawn(tmp_path)["top1_images_per_second"]
    assert [series.name for series in figure.series] == [f"variant{number}" for number in range(9)]
    markers = [trace.marker for trace in plot_figure(figure).data]
    assert len({(marker.color, marker.symbol) for marker in markers}) == 9


def test_csv_holds_full_figures(tmp_path):
    write_report(newton_sweep(tmp_path / "sweep"), tmp_path / "out", page=False)
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["model.attention.newton_iters"] == "5"
    assert (rows[1]["top1"], rows[1]["seeds"], rows[1]["params"]) == ("80.5", "0 1", "1265000.0")
    assert float(rows[1]["residual_stage2"]) == 5e-6
    assert not (tmp_path / "out" / "report.html").exists()


def test_published_figures_stand_in_no_row_beside_others(tmp_path):
    write_report(newton_sweep(tmp_path / "sweep"), tmp_path / "out", page=False)
    with (tmp_path / "out" / "published.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"model.attention.newton_iters": "20", "model.attention.inverse": "newton", "top1": "79.3"}
    assert "79.3" not in (tmp_path / "out" / "table.csv").read_text()
    lines = (tmp_path / "out" / "report.md").read_text().splitlines()
    (line,) = [line for line in lines if "79.3" in line]
    assert "90.50" not in line
    assert lines.index(line) > lines.index("## Published figures")


def test_a_study_with_a_reference_is_judged(tmp_path):
    out = tmp_path / "out"
    screen = write_report(variants_sweep(tmp_path / "sweep", pairs="all"), out, page=False)
    text = (out / "report.md").read_text()
    for expected in (
        "25 runs with 5 seeds",
        "| solved (≥ 95 %) |",
        "| 4 of 5 ",
        "| attention share (%), stages 1 / 2 / 3 |",
        "| 40 / 40 / 40 ",
        "## Differences to softmax, paired by seed",
        "| -17.98 ",
        "## Pairs, first − second, paired by seed",
    ):
        assert expected in text, expected
    assert "Not told apart from the reference: nystromformer; soft." in screen
    assert "> **" not in text
    for name, lines in (("differences", 5), ("pairs", 10)):
        with (out / f"{name}.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == lines
        assert r"\toprule" in (out / f"{name}.tex").read_text()
    assert "$-$ second" in (out / "pairs.tex").read_text()
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["solved"] for row in rows] == ["5", "5", "4", "0", "0"]
    assert [row["attention_share_stage1"] for row in rows] == ["0.4", "0.4", "0.4", "0.4", ""]


def test_a_study_that_answers_nothing_says_so_first(tmp_path):
    noise = {name: tuple(50 + value / 100 for value in top1) for name, top1 in VARIANTS.items()}
    screen = write_report(variants_sweep(tmp_path / "sweep", noise, share=1e-4), tmp_path / "out", page=False)
    lines = (tmp_path / "out" / "report.md").read_text().splitlines()
    assert [line[:24] for line in lines[2:7:2]] == ["> **This study answers n"] * 2 + ["> **This table cannot an"]
    assert "answers nothing: its ceiling (softmax)" in screen
    assert "Real differences" not in screen


def test_two_settings_that_vary_have_a_heat_map(tmp_path):
    write_report(grid_sweep(tmp_path / "sweep"), tmp_path / "out", page=False)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| iterations T \\ landmarks m | 1 " in text
    assert "![Top-1 (%) over landmarks m and iterations T](heat_map.png)" in text
    assert {"heat_map.png", "heat_map.csv", "heat_map.tex"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert r"iterations T \textbackslash{} landmarks m" in (tmp_path / "out" / "heat_map.tex").read_text()


def test_the_processor_is_named_once(tmp_path):
    write_run(tmp_path / "sweep" / "0", 80.0)
    path = tmp_path / "sweep" / "0" / "result.json"
    result = json.loads(path.read_text())
    result["environment"]["machine"] = "a processor, 2 cores"
    path.write_text(json.dumps(result))
    write_report(tmp_path / "sweep", tmp_path / "out", page=False)
    assert "1 x a processor: threads 1, torch" in (tmp_path / "out" / "report.md").read_text()
    result["environment"]["device"] = "a GPU"
    path.write_text(json.dumps(result))
    write_report(tmp_path / "sweep", tmp_path / "out", page=False)
    assert (
        "1 x a GPU: threads 1, torch 2.15.0, commit abc123, machine a processor, 2 cores."
        in (tmp_path / "out" / "report.md").read_text()
    )


def test_latex_escapes(tmp_path):
    write_report(newton_sweep(tmp_path / "sweep"), tmp_path / "out", page=False)
    text = (tmp_path / "out" / "table.tex").read_text()
    assert r"\caption{Iterations \& inverses}" in text
    assert r"90.50 $\pm$ 0.71" in text
    assert r"top-1 (\%)" in text
    text = latex([Column("{a: $b}", ["c^2 ~"])], "")
    assert r"\{a: \$b\} \\" in text
    assert r"c\textasciicircum{}2 \textasciitilde{} \\" in text


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


def test_one_and_one_point_zero_are_the_same_value(tmp_path):
    for seed, gain in enumerate((1, 1, 1.0, 1.0)):
        write_run(tmp_path / str(seed), 80.0 + seed, seed, model__attention__landmark_gain=gain)
        write_run(tmp_path / str(4 + seed), 70.0 + seed, seed, model__attention__landmark_gain=0.5)
    sweep = read_sweep(tmp_path)
    rows = aggregate(sweep.runs, varying_settings(sweep.runs))
    assert [(list(row.settings.values()), row.seeds) for row in rows] == [([0.5], [0, 1, 2, 3]), ([1], [0, 1, 2, 3])]


def test_figures_of_settings_with_the_same_last_name_have_files_of_their_own(tmp_path):
    number = 0
    for weight in (0.1, 0.2):
        for rate in (1, 2):
            write_run(tmp_path / str(number), 80.0 + number, optimizer__lr=weight, schedule__lr=rate)
            number += 1
    files = set(drawn(tmp_path))
    assert {"top1_optimizer_lr", "top1_schedule_lr"} <= files
    assert write_report(tmp_path, tmp_path / "out", page=False)
    with (tmp_path / "out" / "heat_map.csv").open(newline="") as file:
        assert {"optimizer.lr", "schedule.lr"} <= set(next(csv.DictReader(file)))


def test_a_metric_that_is_not_a_number_leaves_the_report(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), 80.0 + seed, seed, residual=float("nan") if seed else 1e-3)
        write_run(tmp_path / str(2 + seed), 85.0 + seed, seed, model__attention__newton_iters=5)
    text = write_report(tmp_path, tmp_path / "out")
    assert "nan" in text
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_setting_that_is_null_has_a_name(tmp_path):
    for number, scale in enumerate((None, 0.5)):
        write_run(tmp_path / str(number), 80.0 + number, model__attention__global_scale=scale)
    sweep = read_sweep(tmp_path)
    names = [row.name for row in aggregate(sweep.runs, varying_settings(sweep.runs))]
    assert names == ["global scale 0.5", "global scale null"]


def test_a_row_of_latex_may_begin_with_a_bracket():
    assert "    {[}6, 6]" in latex([Column("size", ["[6, 6]"])], "Sizes")
