"""The figures of a sweep, described once for the printed form (matplotlib) and the interactive one (plotly)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from soft.studies.rows import Row, file_names, is_numeric, label

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")  # Okabe and Ito
MAX_SERIES = len(COLOURS)
MAX_POINTS = 2 * len(COLOURS)  # points that are named one by one; two of the same colour have different markers


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Attributes:
        error: half-widths of the error bars, None for a point without one.
        dashed: the line is there to compare others with.
    """

    name: str
    x: list[object]
    y: list[float]
    error: list[float | None]
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """Axes, series, and horizontal lines for comparison.

    Attributes:
        file: stem of the file's name.
        lines: whether the points of a series are joined.
        references: name and height of each horizontal line.
        every_x: whether all values of x are named at the axis if they are few.
    """

    file: str
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    lines: bool = True
    log_x: bool = False
    log_y: bool = False
    references: list[tuple[str, float]] = field(default_factory=list)
    every_x: bool = True

    @property
    def ticks(self) -> list[float] | None:
        """Return the values of x if they are few numbers on a linear axis, else None."""
        values = {value for series in self.series for value in series.x}
        few = self.every_x and self.lines and not self.log_x and len(values) <= 8
        return sorted(values) if few and all(isinstance(value, int | float) for value in values) else None


def build_figures(rows: Sequence[Row]) -> list[Figure]:
    """Describe the figures of a sweep.

    They show top-1 against everything that varies, the residual against the inverse's settings, and top-1 against cost.
    """
    keys = [key for key in (rows[0].settings if rows else ()) if is_numeric(rows, key)]
    drawn = []
    for key in keys:
        drawn.append(_against(rows, key, "Top-1", {"": "top1"}, "top-1 (%)"))
        if key in _RESIDUAL_SETTINGS:
            drawn.append(_against(rows, key, "Residual", _STAGES, "‖I − A·A⁺‖ / √m of the inverse", log_y=True))
    if not keys:
        drawn.append(_by_name(rows))
    drawn.append(_scatter(rows, "images_per_second", "images per second in training"))
    drawn.append(_scatter(rows, "macs", "FLOPs per image (multiply-adds)"))
    return [figure for figure in drawn if figure is not None]


_STAGES = {f"stage {stage}": f"residual_stage{stage}" for stage in (1, 2, 3)}
_RESIDUAL_SETTINGS = ("model.attention.newton_iters", "model.attention.num_landmarks")


def _against(
    rows: Sequence[Row], key: str, title: str, quantities: Mapping[str, str], y_label: str, log_y: bool = False
) -> Figure | None:
    """Draw quantities over a numeric setting, with a series for each combination of the other settings."""
    groups: dict[str, list[Row]] = {}
    references = []
    for row in rows:
        name = row.name_without(key)
        if row.settings[key] is not None:
            groups.setdefault(name, []).append(row)
        elif "" in quantities and quantities[""] in row.measured:
            references.append((name, row.measured[quantities[""]].mean))
    scattered = len(groups) * len(quantities) > MAX_SERIES or all(len(group) == 1 for group in groups.values())
    if scattered:
        groups = {"": [row for group in groups.values() for row in group]}
    series = []
    for name, group in groups.items():
        for part, quantity in quantities.items():
            points = [(row.settings[key], row.measured[quantity]) for row in group if quantity in row.measured]
            if points:
                x, y = zip(*sorted(points, key=lambda point: point[0]), strict=True)
                names = ", ".join(filter(None, (name, part)))
                series.append(Series(names, list(x), [value.mean for value in y], [value.std for value in y]))
    if not series:
        return None
    values = [value for one in series for value in one.x]
    return Figure(
        file=figure_file(title, file_names(rows[0].settings)[key]),
        title=f"{title} against {label(key)}",
        x_label=label(key),
        y_label=y_label,
        series=series,
        lines=not scattered,
        log_x=all(isinstance(value, float) and value > 0 for value in values) and max(values) > 10 * min(values),
        log_y=log_y,
        references=references,
    )


def _by_name(rows: Sequence[Row]) -> Figure | None:
    """Draw the top-1 of rows that no number tells apart."""
    rows = [row for row in rows if "top1" in row.measured]
    if len(rows) < 2:
        return None
    names = [row.name for row in rows]
    series = Series("", names, [row.measured["top1"].mean for row in rows], [row.measured["top1"].std for row in rows])
    title = " and ".join(label(key) for key in rows[0].settings)
    return Figure(figure_file("Top-1", title), f"Top-1 by {title}", title, "top-1 (%)", [series], lines=False)


def _scatter(rows: Sequence[Row], quantity: str, x_label: str) -> Figure | None:
    """Draw top-1 against what it costs, with a point for each row."""
    rows = [row for row in rows if quantity in row.measured and "top1" in row.measured]
    if len({row.measured[quantity].mean for row in rows}) < 2:
        return None
    series = [
        Series(row.name, [row.measured[quantity].mean], [row.measured["top1"].mean], [row.measured["top1"].std])
        for row in rows
    ]
    if len(series) > MAX_POINTS:
        x, y, error = ([value for one in series for value in getattr(one, part)] for part in ("x", "y", "error"))
        series = [Series("", x, y, error)]
    return Figure(figure_file("Top-1", quantity), f"Top-1 against {x_label}", x_label, "top-1 (%)", series, lines=False)


def figure_file(what: str, of: str) -> str:
    """Return the stem of a figure's file name, `top1_newton_iters` for example."""
    return re.sub(r"[^a-z0-9]+", "_", f"{what.replace('-', '')}_{of}".lower()).strip("_")
