"""The report of a sweep: a table, figures and a page, in one folder."""

from collections.abc import Sequence
from pathlib import Path

from soft.studies.figures import figures
from soft.studies.pictures import draw
from soft.studies.rows import aggregate
from soft.studies.runs import Sweep, read_sweep, varying_settings
from soft.studies.tables import columns, html_table, latex, markdown, write_csv


def write_report(sweep_folder: str | Path, out: str | Path, page: bool = True) -> str:
    """Writes report.md, table.csv, table.tex, a PNG for each figure and report.html into `out`.

    Args:
        sweep_folder: where the runs are; any number of them may be unfinished.
        page: write report.html, which is 5 MB because it brings its own plotting code.

    Returns:
        what a person wants to see at once: title, table and what is missing.
    """
    sweep = read_sweep(sweep_folder)
    rows = aggregate(sweep.runs, varying_settings(sweep.runs))
    table = columns(rows)
    drawn = figures(rows)
    title = sweep.study.get("title") or f"Sweep {sweep.folder.name}"
    paragraphs = _describe(sweep)

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(rows, out / "table.csv")
    (out / "table.tex").write_text(latex(table, title), encoding="utf-8")
    for figure in drawn:
        draw(figure, out / f"{figure.file}.png")
    pictures = [f"![{figure.title}]({figure.file}.png)" for figure in drawn]
    body = [f"# {title}", *paragraphs, markdown(table), *pictures]
    (out / "report.md").write_text("\n\n".join(body) + "\n", encoding="utf-8")
    if page:
        from soft.studies.page import write_page

        write_page(out / "report.html", title, paragraphs, html_table(table), drawn)
    return "\n".join([title, "", markdown(table), *_missing(sweep)])


def _describe(sweep: Sweep) -> list[str]:
    """Source, command and conditions, as paragraphs of Markdown."""
    study = sweep.study
    texts = [f"Reproduces: {study['source']}."] if study.get("source") else []
    if sweep.command:
        texts.append(f"`{sweep.command}`")
    facts = [run.result.get("facts", {}) for run in sweep.runs]
    environments = [run.result.get("environment", {}) for run in sweep.runs]
    data = _several(
        f"{run.settings.get('data.dataset')} ({fact.get('train_images', 0):,} training and "
        f"{fact.get('val_images', 0):,} validation images)"
        for run, fact in zip(sweep.runs, facts, strict=True)
    )
    texts.append(
        f"{len(sweep.runs)} runs on {data}: {_several(fact.get('steps') for fact in facts)} steps with a global batch "
        f"of {_several(fact.get('global_batch') for fact in facts)}. Top-1 in percent is the best epoch's on the "
        "validation images, mean ± standard deviation over the seeds; FLOPs are multiply-adds per image; images/s are "
        "those of training."
    )
    if study.get("paper"):
        texts.append("The paper's figures are those of ImageNet-1K at 224 px, of soft_tiny unless a model is named.")
    conditions = {key: _several(found.get(key) for found in environments) for key in environments[-1]}
    texts.append(
        f"Measured on {_several(fact.get('devices') for fact in facts)} x {conditions.pop('device', 'unknown')}: "
        + ", ".join(f"{key} {value}" for key, value in conditions.items() if value)
        + "."
    )
    return [*texts, *_missing(sweep)]


def _missing(sweep: Sweep) -> list[str]:
    if not sweep.unfinished:
        return []
    names = ", ".join(folder.name for folder in sweep.unfinished)
    return [f"Not finished, and not in the table: run {names}."]


def _several(values: Sequence[object]) -> str:
    return " or ".join(dict.fromkeys(str(value) for value in values if value is not None))
