"""Top-1 over two settings."""

from PIL import Image

from soft.studies.heat_map import build_heat_maps
from soft.studies.matplotlib_figures import draw_heat_map
from soft.studies.plotly_figures import plot_heat_map
from soft.studies.rows import aggregate
from soft.studies.sweep import read_sweep, varying_settings
from soft.studies.tables import heat_map_table
from tests.studies.sweeps import grid_sweep, newton_sweep, write_run


def heat_maps(folder):
    runs = read_sweep(folder).runs
    return build_heat_maps(aggregate(runs, varying_settings(runs)))


def test_two_numbers_make_a_heat_map(tmp_path):
    (found,) = heat_maps(grid_sweep(tmp_path))
    assert (found.x_label, found.x) == ("landmarks m", [1, 4, 16])
    assert (found.y_label, found.y) == ("iterations T", [2, 20])
    assert found.means == [[10.5, 40.5, 75.5], [20.5, 50.5, 85.5]]
    assert found.subtitle == "none 12.5 %, softmax 99.5 %"
    assert found.limits == (10.5, 99.5)
    table = heat_map_table(found)
    assert [column.header for column in table.columns] == ["iterations T \\ landmarks m", "1", "4", "16"]
    assert [column.cells for column in table.columns][:2] == [["2", "20"], ["10.5 ± 0.5", "20.5 ± 0.5"]]
    assert table.records[1] == {
        "model.attention.num_landmarks": 4,
        "model.attention.newton_iters": 2,
        "top1": 40.5,
        "top1_std": 0.5,
    }


def test_drawn_and_interactive(tmp_path):
    for number, (m, steps) in enumerate(((4, 5), (4, 20), (9, 5))):  # a run is missing
        settings = {"model__attention__num_landmarks": m, "model__attention__newton_iters": steps}
        write_run(tmp_path / str(number), 60.0 + 10 * number, **settings)
    (found,) = heat_maps(tmp_path)
    assert found.means == [[60.0, 80.0], [70.0, None]]
    draw_heat_map(found, tmp_path / "map.png")
    image = Image.open(tmp_path / "map.png").convert("RGB")
    assert image.size[0] == 1650
    colours = {colour for count, colour in image.getcolors(2**24) if count > 30_000}
    assert {(68, 1, 84), (253, 231, 36)} <= colours  # the ends of viridis in the smallest and the largest cell
    (plot,) = plot_heat_map(found).data
    assert (list(plot.x), list(plot.y)) == (["4", "9"], ["5", "20"])
    assert [list(line) for line in plot.text] == [["60.0", "80.0"], ["70.0", ""]]


def test_each_combination_of_other_settings_has_its_own(tmp_path):
    number = 0
    for sampling in ("conv", "random"):
        for m in (4, 9):
            for steps in (5, 20):
                attention = {"attention": "soft", "num_landmarks": m, "newton_iters": steps, "sampling": sampling}
                write_run(tmp_path / str(number), 50.0 + number, model__attention=attention)
                number += 1
    found = heat_maps(tmp_path)
    assert [heat_map.file for heat_map in found] == ["heat_map_conv", "heat_map_random"]
    assert [heat_map.title for heat_map in found] == [
        f"Top-1 (%) over landmarks m and iterations T, {sampling}" for sampling in ("conv", "random")
    ]
    assert found[1].means == [[54.0, 56.0], [55.0, 57.0]]


def test_one_number_or_a_search_makes_none(tmp_path):
    assert heat_maps(newton_sweep(tmp_path / "newton")) == []
    for number in range(6):
        write_run(tmp_path / "search" / str(number), 80.0, optimizer__lr=0.01 + number, optimizer__weight_decay=number)
    assert heat_maps(tmp_path / "search") == []
