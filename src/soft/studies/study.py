"""A study as a file of experiments/ describes it; conf/study.yaml documents the entries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from soft.errors import SettingError
from soft.settings import check_number

# Settings and the values that a point of the study has for them.
Point = Mapping[str, object]
ALL = "all"
# Config groups, and the setting that tells which of their files was taken.
_CHOSEN = {"model": "model.name", "model/attention": "model.attention.attention", "data": "data.dataset"}


@dataclass(frozen=True)
class Gate:
    """Limits in percent that make a study worth reading; None for no limit."""

    ceiling_min: float | None = None
    floor_max: float | None = None


@dataclass(frozen=True)
class Study:
    """Entries of a study at one scale; all are empty for a sweep that belongs to no study.

    Attributes:
        varied: settings with several values at one of the scales, named as in config.yaml, without the seed.
        numeric: those of `varied` whose values are numbers.
        paper: published figures, each with the settings (`when`) that they belong to.
        reference: the point that the others are compared with.
        floor, ceiling: the points without and with all of what the study is about. The difference of their top-1 is
            the gap, and the share of a row is where in it the row lies.
        solved: top-1 in percent from which a run has solved the task.
        pairs: further comparisons of two points; `all` for every two points.
    """

    name: str | None = None
    title: str | None = None
    source: str | None = None
    varied: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    paper: Sequence[Mapping[str, object]] = ()
    reference: Point | None = None
    floor: Point | None = None
    ceiling: Point | None = None
    gate: Gate = field(default_factory=Gate)
    solved: float | None = None
    pairs: str | Sequence[tuple[Point, Point]] = ()


def parse_study(entries: Mapping[str, object], scale: str | None = None) -> Study:
    """Read the entries of a study.

    Args:
        entries: the node `study` of a configuration.
        scale: which of the study's scales counts; by default the one that `entries` name.

    Raises:
        SettingError: an entry does not have the form that conf/study.yaml describes.
    """
    scales = entries.get("scales") or {}
    scale = scale or entries.get("scale")

    def entry(name: str) -> object:
        value = entries.get(name)
        by_scale = isinstance(value, Mapping) and any(key in scales for key in value)
        return value.get(scale) if by_scale else value

    solved, gate = entry("solved"), _gate(entry("gate"))
    if solved is not None:
        check_number("study.solved", solved, low=0, high=100)
    points = {name: _point(f"study.{name}", entry(name)) for name in ("reference", "floor", "ceiling")}
    for name, limit in (("floor", gate.floor_max), ("ceiling", gate.ceiling_min)):
        if limit is not None and points[name] is None:
            raise SettingError(f"study.gate limits the study's {name}; name it with study.{name}={{setting: value}}.")
    return Study(
        name=entries.get("name"),
        title=entries.get("title"),
        source=entries.get("source"),
        **_varied(scales),
        paper=entries.get("paper") or (),
        **points,
        gate=gate,
        solved=solved,
        pairs=_pairs(entry("pairs")),
    )


def read_studies(folder: Path, name: str | None = None) -> list[Study]:
    """Read the studies of `folder` that train something, all of them or the one called `name`.

    Raises:
        SettingError: none has that name.
    """
    found = [yaml.safe_load(path.read_text()).get("study") for path in sorted(folder.glob("*.yaml"))]
    studies = [parse_study(entries) for entries in found if entries and "command" not in entries]
    chosen = [study for study in studies if name in (None, study.name)]
    if not chosen:
        raise SettingError(f"study={name} trains nothing; it is one of {', '.join(study.name for study in studies)}.")
    return chosen


def _varied(scales: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    grids = [grid for grids in scales.values() for grid in ([grids] if isinstance(grids, Mapping) else grids)]
    values: dict[str, list[object]] = {}
    for grid in grids:
        for key, found in grid.items():
            if len(found) > 1 and key != "seed":
                values.setdefault(_CHOSEN.get(key, key.lstrip("+")), []).extend(found)
    numbers = [key for key, found in values.items() if all(isinstance(value, int | float) for value in found)]
    return {"varied": tuple(values), "numeric": tuple(numbers)}


def _point(name: str, value: object) -> Point | None:
    if value is None or (isinstance(value, Mapping) and value):
        return value
    raise SettingError(f"{name}={value!r} has to be settings and their values, {{setting: value}}, or null.")


def _gate(value: object) -> Gate:
    value = value or {}
    limits = Gate.__dataclass_fields__
    if not isinstance(value, Mapping) or not set(value) <= set(limits):
        raise SettingError(f"study.gate={value!r} has to be {{ceiling_min: percent, floor_max: percent}}.")
    for name, limit in value.items():
        if limit is not None:
            check_number(f"study.gate.{name}", limit, low=0, high=100)
    return Gate(**value)


def _pairs(value: object) -> str | list[tuple[Point, Point]]:
    if value == ALL:
        return ALL
    pairs = value or []
    if isinstance(pairs, Sequence) and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs):
        return [tuple(_point("study.pairs", point) for point in pair) for pair in pairs]
    raise SettingError(f"study.pairs={value!r} has to be {ALL}, or a list of pairs [{{setting: value}}, ...].")
