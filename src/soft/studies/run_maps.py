"""What a run's page shows of its attention maps."""

import json
from collections.abc import Iterable
from pathlib import Path

from soft.errors import SettingError
from soft.studies.page_blocks import Picture, Section
from soft.studies.run_commands import MAPS_FOLDER, as_command, visualize_words
from soft.studies.single_run import SingleRun

# What src/visualize.py writes.
MAPS_PICTURE, MAPS_FACTS = "attention_maps.png", "attention_maps.json"


def find_maps(run: SingleRun, elsewhere: Iterable[Path]) -> Path | None:
    """Return the folder of the newest attention maps of one of the run's checkpoints; None if there are none."""
    found = [folder for folder in (run.folder, run.folder / MAPS_FOLDER) if (folder / MAPS_PICTURE).is_file()]
    checkpoints = (run.folder / "checkpoints").resolve()
    for folder in elsewhere:
        paths = [Path(path).absolute().parent.resolve() for path in _map_facts(folder).get("checkpoints", [])]
        if folder not in found and (folder / MAPS_PICTURE).is_file() and checkpoints in paths:
            found.append(folder)
    return max(found, key=lambda folder: (folder / MAPS_PICTURE).stat().st_mtime, default=None)


def maps_section(run: SingleRun, folder: Path | None) -> Section:
    """Return the section with the attention maps in `folder`, or on how to make some.

    Raises:
        SettingError: `folder` holds no attention maps.
    """
    title = "Attention maps"
    if folder is not None and not (folder / MAPS_PICTURE).is_file():
        raise SettingError(f"maps={folder} holds no {MAPS_PICTURE}, which src/visualize.py draws.")
    if folder is None:
        return Section(title, [_missing(run)])
    facts = _map_facts(folder)
    texts = ["Each map says what the point with the cross attends to, from dark (little) to bright (much)."]
    if facts:
        texts[0] += f" Image: `{facts['image']}`."
    texts += [f"Note: {note}" for note in facts.get("notes", [])]
    return Section(title, texts, [Picture(folder / MAPS_PICTURE, "attention maps")])


def _missing(run: SingleRun) -> str:
    if not run.has_pictures:
        return "There are none, because this run was not trained on pictures."
    if run.attention == "none":
        return "There are none, because this run has no attention."
    if run.checkpoint is None:
        return "There is no checkpoint to draw them from yet."
    command = as_command(visualize_words(run.folder, run.checkpoint))
    return f"What points of a validation image attend to is shown here after `{command}`."


def _map_facts(folder: Path) -> dict[str, object]:
    path = folder / MAPS_FACTS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
