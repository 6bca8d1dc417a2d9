"""The page of one run: curves, attention, evaluation, attention maps and settings."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from soft.runs.folder import from_here
from soft.runs.identity import flatten, is_recording, is_repeated
from soft.runs.idle_attention import MIN_SHARE, READ_ON, show_stages
from soft.studies.html_page import write_page
from soft.studies.page_blocks import Block, Facts, Listing, Section
from soft.studies.rows import show
from soft.studies.run_commands import resume_command
from soft.studies.run_evaluation import evaluation_section, find_evaluation
from soft.studies.run_figures import attention_figures, curves, training_figures
from soft.studies.run_maps import find_maps, maps_section
from soft.studies.single_run import SingleRun
from soft.studies.tables import Column, Table, format_si

PAGE = "report.html"
LOG_LINES = 300


def write_run_page(
    run: SingleRun,
    out: Path,
    defaults: Mapping[str, object],
    command: str | None = None,
    evaluation: Path | None = None,
    maps: Path | None = None,
    elsewhere: Iterable[Path] = (),
) -> str:
    """Write report.html into `out`, from the files of the run, of its evaluation and of its attention maps.

    Args:
        defaults: what `python src/train.py` would train with, as nested mappings, for the settings that differ.
        command: the command that started the run; None if it is not known.
        evaluation, maps: folders that src/evaluate.py and src/visualize.py wrote; None: the newest of this run in its
            own folder or in those of `elsewhere`.

    Returns:
        what a person wants to see at once: name, state, best value, and what the page lacks.
    """
    elsewhere = list(elsewhere)
    found = 1
    if evaluation is None:
        evaluation, found = find_evaluation(run, elsewhere)
    if maps is None:
        maps = find_maps(run, elsewhere)
    sections = [
        Section("Curves", [] if run.metrics else [_no_metrics(run)], curves(run)),
        attention_section(run),
        evaluation_section(run, evaluation, found),
        maps_section(run, maps),
    ]
    if figures := training_figures(run):
        sections.append(Section("Training", [], figures))
    sections.append(settings_section(run, defaults))
    notes = [f"Note: {note}" for note in (run.result or {}).get("notes", [])]
    faults = [_unfinished(run, command)] if run.result is None else []
    write_page(out / PAGE, f"Run {run.name}", faults, [], [Facts(summary(run, command)), *_notes(notes), *sections])
    lines = [f"{run.name}: {run.describe_best() or 'not validated yet'}", *faults]
    lines += [text for section in sections[2:4] for text in section.paragraphs if " after `" in text]
    return "\n".join(line.replace("`", "") for line in lines)


def summary(run: SingleRun, command: str | None) -> dict[str, str]:
    """Return what was run, and what came of it, by name."""
    result, facts = run.result or {}, run.facts
    environment = result.get("environment", {})
    over, planned = run.epochs
    best, monitored = run.describe_best(), run.monitored[0]
    texts = {
        "command": f"`{command}`" if command else "",
        "state": "finished" if run.result is not None else "running" if run.running else "not finished",
        "best": best or "",
        "its val/top1": f"{result['top1']:.2f} %" if monitored != "val/top1" and result.get("top1") is not None else "",
        "epochs": f"{over} of {planned}",
        "started": run.started or "",
        "took": _duration(result["seconds"]) if "seconds" in result else "",
        "data": str(run.config.get("data", {}).get("dataset", "")),
        "model": str(run.config["model"].get("name", "")),
    }
    if facts:
        texts["data"] += f", {facts['train_images']:,} training and {facts['val_images']:,} validation {run.example}s"
        texts["model"] += f", {format_si(facts['params'])} parameters"
        if facts.get("macs"):
            texts["model"] += f", {format_si(facts['macs'])} FLOPs (multiply-adds) per {run.example}"
        texts["steps"] = f"{facts['steps']:,}, global batch {facts['global_batch']}"
        hardware = f"{facts['devices']} x {environment.get('device', 'unknown')}"
        texts["hardware"] = ", ".join(filter(None, (hardware, facts.get("precision"))))
    known = ("torch", "lightning", "timm", "python", "commit")
    texts["versions"] = ", ".join(f"{key} {environment[key]}" for key in known if environment.get(key))
    texts["seed"] = str(run.config.get("seed", ""))
    texts["folder"] = f"`{from_here(run.folder)}`"
    texts["checkpoint"] = f"`{from_here(run.checkpoint)}`" if run.checkpoint else ""
    return {name: text for name, text in texts.items() if text}


def attention_section(run: SingleRun) -> Section:
    """Return the section on what was logged of the attention: its share, the mean of P, the residual of the inverse."""
    if run.attention == "none":
        return Section("Attention", ["This run has no attention (`model/attention=none`)."])
    figures, stages = attention_figures(run), show_stages(run.last)
    texts = [f"{run.attention}: {stages or 'no share of the attention was logged'}."]
    if stages:
        texts.append(
            "The share is the part of the blocks' attention output that the global term adds and that differs between "
            f"tokens; below {100 * MIN_SHARE:g} % in every stage the attention is hardly at work ({READ_ON})."
        )
    if figures and not any(figure.file == "residual" for figure in figures):
        texts.append("No residual was logged: this attention inverts no matrix.")
    return Section("Attention", texts, figures)


def settings_section(run: SingleRun, defaults: Mapping[str, object]) -> Section:
    """Return the section on the settings that differ from the defaults, then all settings and the end of the log."""
    ours, theirs = dict(flatten(run.config)), dict(flatten(defaults))
    changed = [
        key
        for key, value in ours.items()
        if not (is_recording(key) or is_repeated(key) or key.rpartition(".")[2].startswith("_"))
        and value != theirs.get(key)
    ]
    blocks: list[Block] = []
    text = "All settings are the defaults of `python src/train.py`."
    if changed:
        columns = [
            Column("setting", changed),
            Column("value", [_shown(ours[key]) for key in changed]),
            Column("default", [_shown(theirs[key]) if key in theirs else "not there" for key in changed]),
        ]
        text = "These differ from the defaults of `python src/train.py`:"
        blocks.append(Table("settings", "", columns, []))
    config = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
    blocks.append(Listing("All settings (config.yaml)", config))
    if run.log:
        lines = run.log.splitlines()
        name = "The log" if len(lines) <= LOG_LINES else f"The last {LOG_LINES} of {len(lines):,} lines of the log"
        blocks.append(Listing(f"{name} (train.log)", "\n".join(lines[-LOG_LINES:])))
    return Section("Settings", [text], blocks)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else show(value)


def _notes(notes: list[str]) -> list[Block]:
    return [Section("", notes)] if notes else []


def _no_metrics(run: SingleRun) -> str:
    if run.result is None:
        return "Nothing has been logged yet."
    return "No metrics were logged (`logger=none`, or a run that wrote no metrics.csv)."


def _unfinished(run: SingleRun, command: str | None) -> str:
    over, planned = run.epochs
    if run.running:
        return f"This run is still training: {over} of {planned} epochs are over."
    text = f"This run is not finished: it stopped after {over} of {planned} epochs."
    return f"{text} To go on: `{resume_command(run.folder, command)}`." if command else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
