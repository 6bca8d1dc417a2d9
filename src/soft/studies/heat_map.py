"""Top-1 over two settings that vary together, such as landmarks and iterations."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from soft.studies.figures import figure_file
from soft.studies.rows import Measured, Row, is_numeric, label

MAX_HEAT_MAPS = 4


@dataclass(frozen=True)
class HeatMap:
    """Top-1 over two settings.

    Attributes:
        file: stem of the file's name.
        keys: the two settings.
        x, y: their values, rising.
        cells: for each y the top-1 at each x; None where no run is finished.
        references: name and top-1 of the rows that have neither of the two settings, such as floor and ceiling.
    """

    file: str
    title: str
    keys: tuple[str, str]
    x_label: str
    y_label: str
    x: list[float]
    y: list[float]
    cells: list[list[Measured | None]]
    references: list[tuple[str, float]] = field(default_factory=list)

    @property
    def subtitle(self) -> str:
        """Return the references as a line below the title."""
        return ", ".join(f"{name} {top1:.1f} %" for name, top1 in self.references)

    @property
    def means(self) -> list[list[float | None]]:
        """Return the mean of each cell."""
        return [[cell and cell.mean for cell in line] for line in self.cells]

    @property
    def limits(self) -> tuple[float, float]:
        """Return the smallest and the largest top-1 among cells and references, the ends of the colour scale."""
        values = [mean for line in self.means for mean in line if mean is not None]
        values += [top1 for _, top1 in self.references]
        return min(values), max(values)


def build_heat_maps(rows: Sequence[Row]) -> list[HeatMap]:
    """Lay top-1 out over the two numeric settings that vary, once for each combination of the others.

    Returns:
        an empty list if not exactly two settings are numeric, if they do not form a grid (fewer than half of its cells
        are there, as in a search), or if there are more than MAX_HEAT_MAPS combinations.
    """
    keys = [key for key in (rows[0].settings if rows else ()) if is_numeric(rows, key)]
    if len(keys) != 2:
        return []
    groups: dict[str, list[Row]] = {}
    references = []
    for row in rows:
        there = [row.settings[key] is not None for key in keys]
        if "top1" in row.measured and all(there):
            groups.setdefault(row.name_without(*keys), []).append(row)
        elif "top1" in row.measured and not any(there):
            references.append((row.name_without(*keys), row.measured["top1"].mean))
    grids = {name: group for name, group in groups.items() if _is_grid(group, keys)}
    if len(grids) > MAX_HEAT_MAPS:
        return []
    return [_heat_map(group, keys, name if len(grids) > 1 else "", references) for name, group in grids.items()]


def _is_grid(rows: Sequence[Row], keys: Sequence[str]) -> bool:
    columns, lines = ({row.settings[key] for row in rows} for key in keys)
    return min(len(columns), len(lines)) > 1 and 2 * len(rows) >= len(columns) * len(lines)


def _heat_map(rows: Sequence[Row], keys: Sequence[str], name: str, references: list[tuple[str, float]]) -> HeatMap:
    x, y = (sorted({row.settings[key] for row in rows}) for key in keys)
    top1 = {tuple(row.settings[key] for key in keys): row.measured["top1"] for row in rows}
    x_label, y_label = map(label, keys)
    return HeatMap(
        file=figure_file("heat_map", name),
        title=f"Top-1 (%) over {x_label} and {y_label}" + (f", {name}" if name else ""),
        keys=tuple(keys),
        x_label=x_label,
        y_label=y_label,
        x=x,
        y=y,
        cells=[[top1.get((column, line)) for column in x] for line in y],
        references=references,
    )
