import csv

from PIL import Image

from soft.monitoring.curves import draw_curves
from soft.runs.result import read_metrics


def write(path, rows):
    names = ["epoch", "step", "train/loss_epoch", "val/loss", "val/top1", "val_raw/loss", "val_raw/top1"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def test_series_skip_empty_cells(tmp_path):
    write(
        tmp_path / "m.csv",
        [{"epoch": 0, "step": 3, "val/top1": 50.0}, {"epoch": 1, "step": 7, "train/loss_epoch": 1.5}],
    )
    assert read_metrics(tmp_path / "m.csv") == {"val/top1": [(1.0, 50.0)], "train/loss_epoch": [(2.0, 1.5)]}


def test_half_a_line_of_a_killed_run_is_left_out(tmp_path):
    write(tmp_path / "m.csv", [{"epoch": 0, "step": 3, "val/top1": 50.0}, {"epoch": 1, "step": 7, "val/top1": 60.0}])
    whole = (tmp_path / "m.csv").read_bytes()
    for cut in (4, len(whole.splitlines()[-1]) + 1):
        (tmp_path / "m.csv").write_bytes(whole[:-cut])
        assert read_metrics(tmp_path / "m.csv")["val/top1"] == [(1.0, 50.0)]


def test_what_is_logged_within_an_epoch_lies_between_two(tmp_path):
    def row(epoch, step, **more):
        return {"epoch": epoch, "step": step, **more}

    end, name = {"train/loss_epoch": 1.0}, "val_raw/loss"
    rows = [row(0, 0, **{name: 5}), row(0, 3, **end), row(1, 5, **{name: 4}), row(1, 7, **end), row(2, 8, **{name: 3})]
    write(tmp_path / "m.csv", rows)
    # The third epoch is not over: it is taken to be as long as the others.
    assert read_metrics(tmp_path / "m.csv")[name] == [(0.25, 5), (1.5, 4), (2.25, 3)]
    # A training may end within an epoch, which is then a short one.
    write(tmp_path / "m.csv", [*rows, row(2, 9, **end)])
    read = read_metrics(tmp_path / "m.csv")
    assert read[name][-1] == (2.5, 3)
    assert read["train/loss_epoch"] == [(1, 1), (2, 1), (3, 1)]


def test_picture_is_drawn(tmp_path):
    rows = [
        {
            "epoch": e,
            "train/loss_epoch": 2 - e / 9,
            "val/loss": 1.9 - e / 9,
            "val/top1": 10.0 * e,
            "val_raw/top1": 9.0 * e,
        }
        for e in range(9)
    ]
    write(tmp_path / "m.csv", rows)
    assert draw_curves(tmp_path / "m.csv", tmp_path / "c.png")
    image = Image.open(tmp_path / "c.png").convert("RGB")
    assert image.size == (1500, 600)
    colours = {colour for _, colour in image.getcolors(maxcolors=2**20)}
    assert (59, 111, 182) in colours  # the validation curve's blue
    assert [path.name for path in tmp_path.glob("*.png")] == ["c.png"]


def test_the_attention_share_has_a_panel_of_its_own(tmp_path):
    names = ["epoch", "val/loss", "val/top1", "attention/share_stage1", "attention/share_stage2"]
    rows = [f"{epoch},1.5,{10 * epoch},{share},0.1" for epoch, share in enumerate((1e-2, 1e-3, 1e-4))]
    (tmp_path / "m.csv").write_text("\n".join([",".join(names), *rows]) + "\n")
    assert draw_curves(tmp_path / "m.csv", tmp_path / "c.png")
    image = Image.open(tmp_path / "c.png").convert("RGB")
    assert image.size == (2250, 600)
    panel = {colour for _, colour in image.crop((1500, 0, 2250, 600)).getcolors(maxcolors=2**20)}
    assert {(31, 119, 180), (255, 127, 14)} <= panel  # the first two colours of a line


def test_nothing_to_draw(tmp_path):
    assert not draw_curves(tmp_path / "none.csv", tmp_path / "c.png")
    write(tmp_path / "m.csv", [{"epoch": 0, "train/loss_epoch": 1.0}])
    assert not draw_curves(tmp_path / "m.csv", tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()
