"""What a study's rows say beside each other."""

import pytest
from scipy import stats

from soft.studies.comparison import compare_pairs, compare_with_reference, find_faults, partner, solved_seeds
from soft.studies.comparison_tables import differences_table, pairs_table
from soft.studies.rows import Measured, Row, aggregate
from soft.studies.study import Study, parse_study
from soft.studies.sweep import read_sweep, varying_settings
from tests.studies.sweeps import VARIANTS, grid_sweep, newton_sweep, variants_sweep, write_run


def read(folder):
    sweep = read_sweep(folder)
    return aggregate(sweep.runs, varying_settings(sweep.runs)), parse_study(sweep.study)


def cells(table, header):
    return next((column.cells for column in table.columns if column.header.startswith(header)), None)


def test_rows_against_the_reference(tmp_path):
    rows, study = read(variants_sweep(tmp_path))
    found = {comparison.row.name: comparison for comparison in compare_with_reference(rows, study)}
    assert list(found) == list(VARIANTS)
    linformer = found["linformer"]
    expected = stats.ttest_rel(VARIANTS["linformer"], VARIANTS["softmax"]).confidence_interval(0.95)
    assert (linformer.difference.low, linformer.difference.high) == pytest.approx((expected.low, expected.high))
    assert linformer.share.mean == pytest.approx(100 * (81.9 - 11.66) / (99.88 - 11.66))
    assert found["softmax"].difference is None
    assert (found["softmax"].share.mean, found["none"].share.mean) == (100, 0)

    table = differences_table(list(found.values()), study)
    assert table.title == "Differences to softmax, paired by seed"
    assert cells(table, "attention") == list(VARIANTS)
    assert cells(table, "difference") == ["reference", "-0.18", "-19.90", "-17.98", "-88.22"]
    assert cells(table, "real") == ["", "no", "no", "yes", "yes"]
    assert cells(table, "95 %")[3] == "-19.58 to -16.38"
    assert cells(table, "share of the gap")[2] == "77 (24 to 131)"
    assert cells(table, "pairs of seeds") == ["", "5", "5", "5", "5"]
    assert table.notes[0].endswith("linformer (-18.0); none (-88.2).")
    assert table.notes[1] == "Not told apart from the reference: nystromformer; soft."
    assert "is 0.3 to 63.5 points" in table.notes[2]
    assert "among 4 comparisons without any difference, 0.2 would look real" in table.notes[3]
    assert table.notes[4] == "In the share of the gap, none is 0 % and softmax is 100 %."
    assert table.records[3]["difference"] == pytest.approx(-17.98)
    assert (table.records[3]["real"], table.records[0]["real"]) == (True, None)


def test_solved_seeds_show_a_plateau_that_the_mean_hides(tmp_path):
    rows, study = read(variants_sweep(tmp_path))
    assert [solved_seeds(row, study) for row in rows] == [5, 5, 4, 0, 0]
    assert solved_seeds(rows[0], parse_study({})) is None


def test_all_pairs(tmp_path):
    rows, study = read(variants_sweep(tmp_path, pairs="all"))
    table = pairs_table(compare_pairs(rows, study))
    assert len(table.records) == 10
    assert (table.records[0]["first"], table.records[0]["second"]) == ("softmax", "nystromformer")
    assert table.notes[0] == (
        "Not told apart: softmax and nystromformer; softmax and soft; nystromformer and soft; soft and linformer."
    )
    assert "among 10 comparisons" in table.notes[1]


def test_named_pairs(tmp_path):
    pair = [{"model.attention.attention": "soft"}, {"model.attention.attention": "linformer"}]
    rows, study = read(variants_sweep(tmp_path, pairs=[pair]))
    (comparison,) = compare_pairs(rows, study)
    assert (comparison.row.name, comparison.other.name) == ("soft", "linformer")
    assert comparison.difference.mean == pytest.approx(79.98 - 81.9)


def test_several_references_are_told_apart_by_the_other_settings(tmp_path):
    rows, study = read(grid_sweep(tmp_path, reference={"model.attention.newton_iters": 20}))
    for row in rows:
        m = row.settings["model.attention.num_landmarks"]
        other = partner(row, rows, study.reference)
        assert m is None or other.settings["model.attention.num_landmarks"] == m
        assert m is not None or other is None  # floor and ceiling have no iterations
    by_name = {comparison.row.name: comparison for comparison in compare_with_reference(rows, study)}
    assert by_name["soft, landmarks m 4, iterations T 2"].difference.mean == pytest.approx(-10)
    assert by_name["none"].difference is None


def test_a_reference_for_which_there_are_no_runs(tmp_path):
    rows, study = read(variants_sweep(tmp_path, reference={"model.attention.attention": "performer"}))
    table = differences_table(compare_with_reference(rows, study), study)
    assert table.notes[0] == "The reference (performer) has no finished run."
    assert cells(table, "real") is None
    assert cells(table, "share of the gap")[0] == "100 (100 to 100)"


def test_one_seed_says_nothing_about_noise(tmp_path):
    one = {name: top1[:1] for name, top1 in VARIANTS.items()}
    rows, study = read(variants_sweep(tmp_path, one, pairs="all"))
    for table in (
        differences_table(compare_with_reference(rows, study), study),
        pairs_table(compare_pairs(rows, study)),
    ):
        assert table.notes[0].startswith("One seed shows no noise")
        assert cells(table, "real") is None
        assert cells(table, "difference")


def test_no_comparison_where_the_study_asks_for_none(tmp_path):
    rows, study = read(newton_sweep(tmp_path))
    assert compare_with_reference(rows, study) == []
    assert compare_pairs(rows, study) == []
    assert find_faults(rows, study) == []


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, []),
        ({"softmax": (85.0, 86.0)}, ["answers nothing: its ceiling (softmax) has 85.5 %, and should have at least 90"]),
        ({"none": (44.0, 46.0)}, ["answers nothing: its floor (none) has 45.0 %, and should have at most 30 %"]),
        ({"softmax": (50.0,), "none": (50.0,)}, ["its ceiling (softmax) has 50.0 %", "its floor (none) has 50.0 %"]),
        ({"softmax": ()}, ["not known yet: its ceiling (softmax), which should have at least 90 %, has no finished"]),
    ],
    ids=str,
)
def test_gate(tmp_path, changes, texts):
    rows, study = read(variants_sweep(tmp_path, VARIANTS | changes))
    faults = find_faults(rows, study)
    assert len(faults) == len(texts)
    for fault, text in zip(faults, texts, strict=True):
        assert text in fault


DEAD, ALIVE = (1e-4, 2e-5, 9.9e-3), (1e-4, 2e-5, 0.01)


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ((None, None), None),
        ((ALIVE, ALIVE), None),
        ((DEAD, DEAD), "in every row of it what the attention adds differs between tokens by less than 1 % of"),
        ((DEAD, ALIVE), "hardly matter there (read docs/attention.md): landmarks m 4."),
    ],
)
def test_attention_that_adds_nothing(tmp_path, shares, text):
    for number, (m, share) in enumerate(zip((4, 9), shares, strict=True)):
        write_run(tmp_path / str(number), 80.0, share=share, model__attention__num_landmarks=m)
    rows, study = read(tmp_path)
    faults = find_faults(rows, study)
    assert len(faults) == (text is not None)
    assert all(text in fault for fault in faults)


def test_a_living_ceiling_does_not_hide_dead_attention(tmp_path):
    folder = variants_sweep(tmp_path, {"softmax": VARIANTS["softmax"], "none": VARIANTS["none"]})
    study = read(folder)[1]
    write_run(folder / "99", 12.0, 0, read_sweep(folder).study, share=DEAD, model__attention={"attention": "soft"})
    rows, study = read(folder)
    (fault,) = find_faults(rows, study)
    assert "in every row of it" in fault


def test_dead_attention_spoils_only_studies_of_attention(tmp_path):
    for number, lr in enumerate((0.001, 0.002)):
        write_run(tmp_path / str(number), 80.0, share=DEAD, optimizer__lr=lr)
    assert find_faults(*read(tmp_path)) == []


def row(attention, seeds=(0, 1), **others):
    settings = {"attention": attention, **others}
    values = tuple(80.0 + seed + len(str(settings)) for seed in seeds)
    return Row(settings, list(seeds), {"top1": Measured(values, tuple(seeds))}, {})


def test_a_partner_with_the_same_settings_comes_first_where_one_is_not_set():
    rows = [row("soft", conv=None), row("none", conv=None), row("soft", conv=0), row("none", conv=0)]
    point = {"attention": "soft"}
    assert [partner(each, rows, point) for each in rows] == [rows[0], rows[0], rows[2], rows[2]]


def test_a_row_is_not_compared_with_another_point_while_its_own_reference_is_missing():
    rows = [row("soft", size=6), row("softmax", size=6), row("softmax", size=8)]
    study = Study(reference={"attention": "soft"})
    early = compare_with_reference(rows, study, complete=False)
    assert [comparison.other for comparison in early] == [rows[0], rows[0], None]
    assert any("Runs are missing" in note for note in differences_table(early, study, complete=False).notes)
    # A study that never has the point at other settings, such as a ceiling without a convolution, is compared with it.
    assert [comparison.other for comparison in compare_with_reference(rows, study)] == [rows[0]] * 3


def test_pairs_that_all_differ_by_the_same_are_not_judged():
    rows = [row("soft"), row("none")]
    rows[1].measured["top1"] = Measured((70.0, 71.0), (0, 1))
    table = differences_table(
        compare_with_reference(rows, Study(reference={"attention": "soft"})), Study(reference={"attention": "soft"})
    )
    assert cells(table, "real") in (None, ["", ""])
    assert "All pairs of seeds differ by the same amount" in table.notes[0]
