"""The page of one run."""

import json
import os
import subprocess
import sys

import pytest

from soft.errors import SettingError
from soft.studies.figures import MAX_SERIES
from soft.studies.run_evaluation import calibration_figure, evaluation_section, find_evaluation
from soft.studies.run_figures import attention_figures, curves, thinned, training_figures
from soft.studies.run_report import summary, write_run_page
from soft.studies.single_run import read_single_run
from soft.studies.sweep import read_sweep
from tests.studies.runs import write_evaluation, write_maps, write_single_run
from tests.studies.sweeps import CONFIG, newton_sweep

COMMAND = "python src/train.py schedule.epochs=3"


def page(folder, out, **options) -> tuple[str, str]:
    """Return the page of a run without plotly's code, and what is printed."""
    printed = write_run_page(read_single_run(folder), out, CONFIG, COMMAND, **options)
    text = (out / "report.html").read_text(encoding="utf-8")
    return text[: text.find("<script>")] + text[text.find("</script>", text.find("<script>")) :], printed


def test_a_page_holds_everything_that_the_folder_does(tmp_path):
    run = write_single_run(tmp_path / "run")
    best = run / "checkpoints" / "best.ckpt"
    write_evaluation(run / "evaluation", best)
    write_maps(run / "attention_maps", best)
    text, printed = page(run, tmp_path / "out")
    assert printed == "soft_pico-digits: val/top1 80.00 % (highest, epoch 2)"
    for expected in (
        "<title>Run soft_pico-digits</title>",
        f"<code>{COMMAND}</code>",
        "<dd>finished</dd>",
        "val/top1 80.00 % (highest, epoch 2)",
        "2026-01-02 03:04",
        "1 min 0 s",
        "1,437 training and 360 validation images",
        "1.26 M parameters",
        "commit abc123",
        "<h2>Curves</h2>",
        "soft: 41 / 41 / 41 % of the attention output in stages 1 / 2 / 3",
        "Residual of the inverse",
        "8 images of digits, ema weights",
        "7.25 % expected error",
        "Note: a word about it",
        "<h3>Confusion matrix</h3>",
        "<td>cat</td><td>75.0</td><td>100.0</td><td>4</td><td>3</td><td>3</td><td>dog</td><td>1</td>",
        'alt="mistaken images" src="data:image/png;base64,',
        'alt="attention maps" src="data:image/png;base64,',
        "Note: maps are alike",
        "<td>trainer.max_epochs</td><td>3</td><td>20</td>",
        "All settings (config.yaml)",
        "&lt;ended&gt;",
    ):
        assert expected in text, expected
    assert 'class="fault"' not in text
    assert "is shown here after" not in text
    assert "<td>data.root</td>" not in text  # it is the default
    assert text.index("<td>cat</td>") < text.index("<td>dog</td><td>100.0</td>") < text.index("<td>owl</td>")


def test_what_is_missing_is_said_with_its_command(tmp_path, monkeypatch):
    run = write_single_run(tmp_path / "my runs" / "1")
    monkeypatch.chdir(tmp_path)
    text, printed = page(run, tmp_path / "out")
    evaluate = (
        "python src/evaluate.py 'checkpoint=my runs/1/checkpoints/best.ckpt' 'hydra.run.dir=my runs/1/evaluation'"
    )
    draw = (
        "python src/visualize.py image=0 'checkpoint=my runs/1/checkpoints/best.ckpt' "
        "'hydra.run.dir=my runs/1/attention_maps'"
    )
    assert evaluate in printed
    assert draw in printed
    for command in (evaluate, draw):
        assert f"shown here after <code>{command.replace(chr(39), '&#x27;')}</code>" in text


def test_an_unfinished_run_has_a_page(tmp_path, monkeypatch):
    run = write_single_run(tmp_path / "run", finished=False)
    monkeypatch.chdir(tmp_path)
    text, printed = page(run, tmp_path / "out")
    sentence = "This run is not finished: it stopped after 2 of 3 epochs. To go on: "
    assert f"{sentence}{COMMAND} resume=run." in printed
    assert f'<p class="fault">{sentence}<code>{COMMAND} resume=run</code>.</p>' in text
    assert "val/top1 80.00 % (highest, epoch 2)" in text
    assert "<dd>not finished</dd>" in text


def test_a_run_that_goes_on_is_said_to(tmp_path):
    run = write_single_run(tmp_path / "run", finished=False)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, run / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        assert read_single_run(run).running
        assert "still training: 2 of 3 epochs are over" in page(run, tmp_path / "out")[1]
        holder.communicate(b"\n")
    assert not read_single_run(run).running


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    run = write_single_run(tmp_path / "run", finished=False)
    for name in ("config.yaml", "metrics.csv", "train.log", "checkpoints/best.ckpt"):
        (run / name).unlink()
    text, printed = page(run, tmp_path / "out")
    assert printed.startswith("soft_pico-digits: not validated yet")
    for expected in (
        "Nothing has been logged yet.",
        "no checkpoint to evaluate yet",
        "no checkpoint to draw them from",
    ):
        assert expected in text
    assert "plotly" not in text  # nothing is drawn, and the page is small


def test_runs_without_attention_pictures_or_metrics(tmp_path):
    none = write_single_run(tmp_path / "none", attention="none")
    (none / "metrics.csv").unlink()
    text, printed = page(none, tmp_path / "out")
    assert printed.startswith("soft_pico-digits: val/top1 80.00 % (highest)")
    assert "No metrics were logged" in text
    assert "This run has no attention (<code>model/attention=none</code>)." in text
    assert "There are none, because this run has no attention." in text
    tokens = write_single_run(tmp_path / "tokens", data__mean=None)
    result = json.loads((tokens / "result.json").read_text())
    result["facts"]["example_name"] = "example"
    (tokens / "result.json").write_text(json.dumps(result))
    text, _ = page(tokens, tmp_path / "out")
    assert "There are none, because this run was not trained on pictures." in text
    assert "360 validation examples" in text
    assert "with augmentation" not in text


def test_the_monitored_metric_keeps_its_name_and_direction(tmp_path):
    run = write_single_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result |= {"monitor": "val/loss", "mode": "min", "best": 0.9}
    (run / "result.json").write_text(json.dumps(result))
    read = read_single_run(run)
    assert read.describe_best() == "val/loss 0.9 (lowest, epoch 2)"
    assert summary(read, None)["its val/top1"] == "80.00 %"
    loss, top1 = curves(read)
    assert [(one.x, one.y) for one in loss.series if one.name == "best"] == [([2.0], [0.9])]
    assert "best" not in [one.name for one in top1.series]
    unfinished = write_single_run(
        tmp_path / "unfinished", finished=False, callbacks={"checkpoint": {"monitor": "val/loss", "mode": "auto"}}
    )
    assert read_single_run(unfinished).describe_best() == "val/loss 0.9 (lowest, epoch 2)"


def test_curves_lie_at_the_epochs(tmp_path):
    run = read_single_run(write_single_run(tmp_path / "run"))
    loss, top1 = curves(run)
    assert [one.name for one in loss.series] == ["training, with augmentation", "averaged weights"]
    assert [one.x for one in top1.series] == [[1, 2, 3], [1, 2, 3], [2]]
    rate, speed = training_figures(run)
    assert rate.series[0].x == [0.5, 1.0, 1.5, 2.5]
    assert (rate.ticks, top1.ticks) == (None, [1, 2, 3])
    assert speed.y_label == "images per second"
    share, residual = attention_figures(run)
    assert share.series[0].y == pytest.approx([30, 40, 41])
    assert share.references[0][1] == 1
    assert residual.log_y
    assert max(len(figure.series) for figure in (loss, top1, share, residual)) <= MAX_SERIES


def test_long_curves_are_thinned():
    values = [(float(x), float(x % 2)) for x in range(2500)]
    assert len(thinned(values)) == 834
    assert thinned(values, limit=1250)[:2] == [(0.5, 0.5), (2.5, 0.5)]
    assert thinned(values[:10]) == values[:10]


def test_calibration_is_right_answers_by_probability():
    rows = [{"probability": p, "label": "a", "class": answer} for p, answer in ((0.95, "a"), (0.97, "b"), (0.3, "a"))]
    measured, ideal = calibration_figure([*rows, {"probability": float("nan"), "label": "a", "class": "a"}]).series
    assert measured.x == pytest.approx([30, 96])
    assert measured.y == [100, 50]
    assert ideal.dashed


def test_the_newest_evaluation_of_the_run_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_single_run(tmp_path / "run")
    run, best = read_single_run(folder), folder / "checkpoints" / "best.ckpt"
    assert find_evaluation(run, []) == (None, 0)
    others = [tmp_path / "outputs" / name for name in ("own", "other", "changed")]
    write_evaluation(others[0], "run/checkpoints/best.ckpt", weights="raw")  # relative, as it was typed
    write_evaluation(others[1], tmp_path / "another" / "checkpoints" / "best.ckpt")
    write_evaluation(others[2], best, settings={"model.attention.newton_iters": 5})
    assert find_evaluation(run, others) == (others[0], 2)
    write_evaluation(folder / "evaluation", best)
    os.utime(folder / "evaluation" / "evaluation.json", (2e9, 2e9))
    assert find_evaluation(run, others) == (folder / "evaluation", 3)
    assert "It is the newest of 3 evaluations" in evaluation_section(run, folder / "evaluation", 3).paragraphs[0]
    text, _ = page(folder, tmp_path / "out", evaluation=others[2])
    assert "The model is another one than in training: <code>model.attention.newton_iters=5</code>." in text


def test_an_evaluation_that_does_not_fit_is_said(tmp_path):
    folder = write_single_run(tmp_path / "run")
    best = folder / "checkpoints" / "best.ckpt"
    write_evaluation(folder / "evaluation", best)
    os.utime(folder / "evaluation" / "evaluation.json", (1e9, 1e9))
    text, _ = page(folder, tmp_path / "out")
    assert "The checkpoint has been written after this evaluation" in text
    # Details of an earlier evaluation are not shown beside the numbers of one that has none.
    result = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    del result["ece"]
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(result))
    text, _ = page(folder, tmp_path / "out")
    assert "<code>details=false</code>" in text
    assert "Confusion matrix" not in text
    (folder / "evaluation" / "evaluation.json").write_text("{")
    with pytest.raises(SettingError, match="is damaged"):
        page(folder, tmp_path / "out")


def test_a_page_has_no_more_than_thirty_classes(tmp_path):
    folder = write_single_run(tmp_path / "run")
    write_evaluation(folder / "evaluation", folder / "checkpoints" / "best.ckpt")
    names = [f"class {i}" for i in range(50)]
    lines = [",".join([name, *("2" if i == j else "0" for j in range(50))]) for i, name in enumerate(names)]
    (folder / "evaluation" / "confusion.csv").write_text("\n".join([",".join(["class", *names]), *lines]) + "\n")
    head = "class,images,correct,top1,answers,precision,confused_with,confused\n"
    rows = "".join(f"{name},2,2,100,2,100,,0\n" for name in names)
    (folder / "evaluation" / "per_class.csv").write_text(head + rows)
    text, _ = page(folder, tmp_path / "out")
    assert "30 of 50 classes, those of the most frequent confusions." in text
    assert "The weakest 30 of 50 classes." in text


@pytest.mark.parametrize("given", ["sweep", "nowhere", "empty"])
def test_what_is_no_run_is_said_in_a_sentence(given, tmp_path):
    newton_sweep(tmp_path / "sweep")
    (tmp_path / "empty").mkdir()
    text = {
        "sweep": r"is no run, and holds 8 runs: sweep=\S+ reports on a sweep, and run=\S+/sweep/0 on one run",
        "nowhere": "is no folder; name the folder of a run",
        "empty": "holds no run; name the folder of one",
    }
    with pytest.raises(SettingError, match=text[given]):
        read_single_run(tmp_path / given)


def test_a_single_run_is_no_sweep(tmp_path):
    run = write_single_run(tmp_path / "run")
    with pytest.raises(SettingError, match=f"sweep={run} is the folder of a single run; run={run} makes its page"):
        read_sweep(run)
