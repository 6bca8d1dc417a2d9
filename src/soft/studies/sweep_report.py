"""The report of a sweep: tables, figures and a page, in one folder."""

from collections.abc import Sequence
from pathlib import Path

from soft.studies.comparison import compare_pairs, compare_with_reference, find_faults
from soft.studies.comparison_tables import differences_table, pairs_table
from soft.studies.figures import Figure, build_figures
from soft.studies.heat_map import HeatMap, build_heat_maps
from soft.studies.matplotlib_figures import draw_figure, draw_heat_map
from soft.studies.rows import Row, aggregate
from soft.studies.study import Study, parse_study
from soft.studies.sweep import Sweep, read_sweep, varying_settings
from soft.studies.table_formats import latex, markdown, write_csv
from soft.studies.tables import Table, heat_map_table, measured_table, published_table
from soft.writing import replace_text

Block = Table | Figure | HeatMap


def write_report(sweep_folder: str | Path, out: str | Path, page: bool = True) -> str:
    """Write report.md, a CSV and a LaTeX file for each table, a PNG for each figure, and report.html into `out`.

    Args:
        sweep_folder: folder of the runs; any number of them may be unfinished.
        page: write report.html, which is 5 MB because it brings its own plotting code.

    Returns:
        what a person wants to see at once: title, table, what the differences say, and what is missing.
    """
    sweep = read_sweep(sweep_folder)
    study = parse_study(sweep.study)
    rows = aggregate(sweep.runs, varying_settings(sweep.runs))
    title = study.title or f"Sweep {sweep.folder.name}"
    faults, paragraphs, blocks = (
        find_faults(rows, study),
        _describe(sweep, study),
        _blocks(rows, study, title, sweep.complete),
    )

    out = Path(out)
    body = [f"# {title}", *(f"> **{fault}**" for fault in faults), *paragraphs]
    for block in blocks:
        body += _write_block(block, out, title)
    replace_text(out / "report.md", "\n\n".join(body) + "\n")
    if page:
        from soft.studies.html_page import write_page

        write_page(out / "report.html", title, faults, paragraphs, blocks)
    table, notes = blocks[0], [note for block in blocks if _is_comparison(block) and not faults for note in block.notes]
    return "\n".join([title, "", *faults, markdown(table.columns), *notes, *_missing(sweep)])


def _blocks(rows: Sequence[Row], study: Study, title: str, complete: bool) -> list[Block]:
    """Return the report's tables and figures in their order."""
    blocks: list[Block] = [measured_table(rows, study, title)]
    if comparisons := compare_with_reference(rows, study, complete):
        blocks.append(differences_table(comparisons, study, complete))
    if pairs := compare_pairs(rows, study, complete):
        blocks.append(pairs_table(pairs))
    for heat_map in build_heat_maps(rows):
        blocks += [heat_map_table(heat_map), heat_map]
    blocks += build_figures(rows)
    if study.paper:
        blocks.append(published_table(study))
    return blocks


def _is_comparison(block: Block) -> bool:
    return isinstance(block, Table) and block.file in ("differences", "pairs")


def _write_block(block: Block, out: Path, title: str) -> list[str]:
    """Write the files of a block, and return its paragraphs of Markdown."""
    if isinstance(block, Table):
        write_csv(block.records, out / f"{block.file}.csv")
        replace_text(out / f"{block.file}.tex", latex(block.columns, block.title))
        heading = [f"## {block.title}"] if block.title != title else []
        return [*heading, *block.notes, markdown(block.columns)]
    draw = draw_heat_map if isinstance(block, HeatMap) else draw_figure
    draw(block, out / f"{block.file}.png")
    return [f"![{block.title}]({block.file}.png)"]


def _describe(sweep: Sweep, study: Study) -> list[str]:
    """Return source, command and conditions as paragraphs of Markdown."""
    texts = [f"Reproduces: {study.source}."] if study.source else []
    if sweep.command:
        texts.append(f"`{sweep.command}`")
    facts = [run.result.get("facts", {}) for run in sweep.runs]
    data = _several(
        f"{run.settings.get('data.dataset')} ({fact.get('train_images', 0):,} training and "
        f"{fact.get('val_images', 0):,} validation {fact.get('example_name', 'image')}s)"
        for run, fact in zip(sweep.runs, facts, strict=True)
    )
    example = _several(fact.get("example_name", "image") for fact in facts)
    seeds = len({run.settings.get("seed") for run in sweep.runs})
    seconds = {run.folder: run.result.get("seconds") or run.result.get("training_seconds") or 0 for run in sweep.runs}
    hours = sum(seconds.values()) / 3600
    texts.append(
        f"{len(seconds)} runs with {seeds} seed{'s' if seeds > 1 else ''}, {hours:.2g} hours of computing in all, "
        f"on {data}: {_several(fact.get('steps') for fact in facts)} steps with a global batch of "
        f"{_several(fact.get('global_batch') for fact in facts)}. Top-1 in percent is the best epoch's on the "
        f"validation {example}s, mean ± standard deviation over the seeds; FLOPs are multiply-adds per {example}; "
        "images/s are those of training."
    )
    environments = [run.result.get("environment", {}) for run in sweep.runs]
    conditions = {key: _several(found.get(key) for found in environments) for key in environments[-1]}
    device = conditions.pop("device", "unknown")
    if conditions.get("machine", "").startswith(device):
        del conditions["machine"]  # the device is the machine's processor, and already named
    texts.append(
        f"Measured on {_several(fact.get('devices') for fact in facts)} x {device}: "
        + ", ".join(f"{key} {value}" for key, value in conditions.items() if value)
        + "."
    )
    return [*texts, *_missing(sweep)]


def _missing(sweep: Sweep) -> list[str]:
    texts = []
    for folders, what, where in (
        (sweep.unfinished, "finished", "not in"),
        (sweep.unevaluated, "evaluated with all settings", "not or only in part in"),
    ):
        if folders:
            names = ", ".join(folder.name for folder in folders)
            texts.append(f"Not {what}, and {where} the table: run {names}.")
    return texts


def _several(values: Sequence[object]) -> str:
    return " or ".join(dict.fromkeys(str(value) for value in values if value is not None))
