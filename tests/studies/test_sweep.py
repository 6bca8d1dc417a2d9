"""How the files of a sweep are read, which settings vary, and how runs become rows."""

import pytest

from soft.errors import SettingError
from soft.studies.rows import aggregate
from soft.studies.sweep import read_sweep, varying_settings
from tests.studies.sweeps import newton_sweep, write_run


def rows_of(folder):
    runs = read_sweep(folder).runs
    return aggregate(runs, varying_settings(runs))


def test_sweep_is_read_from_its_files(tmp_path):
    sweep = read_sweep(newton_sweep(tmp_path / "sweep"))
    assert [run.folder.name for run in sweep.runs] == [str(number) for number in range(8)]
    assert [folder.name for folder in sweep.unfinished] == ["8"]
    assert sweep.command == (
        "python src/train.py -m experiments=newton_iterations model/attention=soft,soft_norm 'data.root=a b'"
    )
    assert sweep.runs[0].images_per_second == 399.0  # the median, without the slow start


def test_seeds_become_one_row(tmp_path):
    rows = rows_of(newton_sweep(tmp_path))
    settings = [(row.settings["model.attention.newton_iters"], row.settings["model.attention.inverse"]) for row in rows]
    assert settings == [(1, "newton"), (5, "newton"), (20, "newton"), (None, "svd")]  # SVD has no iterations
    assert rows[2].seeds == [0, 1]
    assert rows[2].measured["top1"].mean == 90.5
    assert rows[2].measured["top1"].std == pytest.approx(0.5**0.5)
    assert rows[2].top1 == {0: 90.0, 1: 91.0}


def test_what_follows_from_a_name_is_not_listed(tmp_path):
    for number, (name, lr) in enumerate((("soft_tiny", 1e-3), ("soft_medium", 3.5e-4), ("soft_huge", 2.7e-4))):
        write_run(tmp_path / str(number), 79.0, model__name=name, optimizer__lr=lr)
    (key,) = varying_settings(read_sweep(tmp_path).runs)
    assert key == "model.name"
    assert [row.settings[key] for row in rows_of(tmp_path)] == ["soft_tiny", "soft_medium", "soft_huge"]


def test_what_was_typed_is_listed(tmp_path):
    for number, (name, lr) in enumerate((("soft", 1e-3), ("soft_norm", 2e-3))):
        write_run(
            tmp_path / str(number),
            79.0,
            model__attention__attention=name,
            optimizer__lr=lr,
            typed=("model/attention=x", "optimizer.lr=1"),
        )
    assert varying_settings(read_sweep(tmp_path).runs) == ["optimizer.lr", "model.attention.attention"]


def test_settings_with_the_same_values_are_listed_once(tmp_path):
    for number, epochs in enumerate((5, 10)):
        write_run(tmp_path / str(number), 79.0, schedule__epochs=epochs, trainer__max_epochs=epochs)
    assert varying_settings(read_sweep(tmp_path).runs) == ["schedule.epochs"]


def test_options_of_other_variants_do_not_count(tmp_path):
    write_run(tmp_path / "0", 79.0)
    write_run(tmp_path / "1", 78.0, model__attention={"attention": "softmax"})
    write_run(tmp_path / "2", 77.0, model__attention={"attention": "performer", "num_features": 110})
    rows = rows_of(tmp_path)
    assert [dict(row.settings) for row in rows] == [
        {"model.attention.attention": name} for name in ("soft", "softmax", "performer")
    ]


def test_searched_settings_all_count(tmp_path):
    for number, (lr, m) in enumerate(((0.011, 4), (0.017, 9), (0.05, 9))):
        write_run(tmp_path / str(number), 90.0, optimizer__lr=lr, model__attention__num_landmarks=m)
    assert varying_settings(read_sweep(tmp_path).runs) == ["optimizer.lr", "model.attention.num_landmarks"]


def test_runs_with_the_same_seed_are_averaged_for_pairing(tmp_path):
    for number, (seed, top1) in enumerate(((0, 80.0), (0, 90.0), (1, 70.0))):
        write_run(tmp_path / str(number), top1, seed)
    (row,) = rows_of(tmp_path)
    assert row.top1 == {0: 85.0, 1: 70.0}
    assert row.measured["top1"].mean == 80.0


def test_a_row_is_at_a_point_by_what_varies_and_by_what_does_not(tmp_path):
    rows = rows_of(newton_sweep(tmp_path))
    point = {"model.name": "soft_pico", "model.attention.newton_iters": 5}
    assert [row.is_at(point) for row in rows] == [False, True, False, False]
    assert not any(row.is_at(point | {"model.name": "soft_tiny"}) for row in rows)


def test_nothing_to_report(tmp_path):
    with pytest.raises(SettingError, match="holds no finished run"):
        read_sweep(tmp_path)
