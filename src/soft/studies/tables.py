"""The tables of a sweep: what was measured, top-1 over two settings, and what was published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from soft.studies.comparison import shares, solved_seeds
from soft.studies.heat_map import HeatMap
from soft.studies.rows import Measured, Row, label, show
from soft.studies.study import Study

PUBLISHED_NOTE = "The paper's figures are those of ImageNet-1K at 224 px, of soft_tiny unless a model is named."


@dataclass(frozen=True)
class Column:
    """A header, and a cell for each row; empty where there is nothing."""

    header: str
    cells: list[str]


@dataclass
class Table:
    """A table for people, and the same figures in full.

    Attributes:
        file: stem of its files' names.
        columns: as they are shown; columns without any content are left out.
        records: a mapping from name to value for each line of the CSV file.
        notes: sentences that belong to it.
    """

    file: str
    title: str
    columns: list[Column]
    records: list[dict[str, object]]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = [column for column in self.columns if any(column.cells)]


def format_si(value: float) -> str:
    """Return three digits and a unit prefix: 1.26 M."""
    for limit, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{prefix}"
    return f"{value:.3g}"


_QUANTITIES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("top1", "top-1 (%)", "{:.2f}".format),
    ("params", "params", format_si),
    ("macs", "FLOPs", format_si),
    ("images_per_second", "images/s", "{:.0f}".format),
    ("peak_memory", "peak memory (MiB)", lambda value: f"{value / 2**20:.0f}"),
    ("seconds", "time (s)", "{:.0f}".format),
)


def measured_table(rows: Sequence[Row], study: Study, title: str) -> Table:
    """Tabulate what varies and what was measured."""
    columns = setting_columns(rows)
    for name, header, form in _QUANTITIES:
        columns.append(Column(header, [_cell(row.measured.get(name), form) for row in rows]))
        if name == "top1":
            columns.append(_solved_column(rows, study))
    columns.append(_share_column(rows))
    columns.append(Column("residual", [_largest_residual(row) for row in rows]))
    columns.append(Column("seeds", [", ".join(map(str, sorted(row.seeds))) for row in rows]))
    epochs = [row.measured.get("epochs") for row in rows]
    if len({value.mean for value in epochs if value}) > 1:  # some runs were stopped early
        columns.append(Column("epochs", [_cell(value, "{:.0f}".format) for value in epochs]))
    return Table("table", title, columns, _measured_records(rows, study))


def _measured_records(rows: Sequence[Row], study: Study) -> list[dict[str, object]]:
    """Return the settings' dotted keys with their values, and the mean and standard deviation of each quantity."""
    names = dict.fromkeys(name for row in rows for name in row.measured)
    records = []
    for row in rows:
        record = {**row.settings, "seeds": " ".join(map(str, sorted(row.seeds)))}
        for name in names:
            measured = row.measured.get(name)
            record |= {name: measured and measured.mean, f"{name}_std": measured and measured.std}
        if study.solved is not None:
            record["solved"] = solved_seeds(row, study)
        records.append(record)
    return records


def heat_map_table(heat_map: HeatMap) -> Table:
    """Tabulate top-1 over two settings: a column for each value of the first, a line for each of the second."""
    columns = [Column(f"{heat_map.y_label} \\ {heat_map.x_label}", list(map(show, heat_map.y)))]
    for number, x in enumerate(heat_map.x):
        columns.append(Column(show(x), [_cell(line[number], "{:.1f}".format) for line in heat_map.cells]))
    records = [
        {**dict(zip(heat_map.keys, (x, y), strict=True)), "top1": cell and cell.mean, "top1_std": cell and cell.std}
        for y, line in zip(heat_map.y, heat_map.cells, strict=True)
        for x, cell in zip(heat_map.x, line, strict=True)
    ]
    return Table(heat_map.file, heat_map.title, columns, records)


def published_table(study: Study) -> Table:
    """Tabulate the figures that the paper reports, with the settings that they belong to."""
    settings = dict.fromkeys(key for entry in study.paper for key in entry["when"])
    names = dict.fromkeys(name for entry in study.paper for name in entry if name != "when")
    headers = {name: header for name, header, _ in _QUANTITIES}
    columns = [Column(label(key), [show(entry["when"].get(key)) for entry in study.paper]) for key in settings]
    for name in names:
        columns.append(Column(headers.get(name, name), [str(entry.get(name, "")) for entry in study.paper]))
    records = [
        {key: entry["when"].get(key) for key in settings} | {name: entry.get(name) for name in names}
        for entry in study.paper
    ]
    return Table("published", "Published figures", columns, records, [PUBLISHED_NOTE])


def setting_columns(rows: Sequence[Row]) -> list[Column]:
    """Return a column for each varying setting."""
    return [Column(label(key), [show(row.settings[key]) for row in rows]) for key in rows[0].settings]


def top1_column(rows: Sequence[Row]) -> Column:
    """Return the column of top-1."""
    return Column("top-1 (%)", [_cell(row.measured.get("top1"), "{:.2f}".format) for row in rows])


def _solved_column(rows: Sequence[Row], study: Study) -> Column:
    solved = [solved_seeds(row, study) for row in rows]
    cells = ["" if n is None else f"{n} of {len(row.seeds)}" for n, row in zip(solved, rows, strict=True)]
    return Column(f"solved (≥ {study.solved:g} %)" if study.solved is not None else "", cells)


def _share_column(rows: Sequence[Row]) -> Column:
    found = [shares(row) for row in rows]
    stages = sorted({stage.removeprefix("stage") for row_shares in found for stage in row_shares if stage})
    header = "attention share (%)" + (f", stages {' / '.join(stages)}" if len(stages) > 1 else "")
    cells = [" / ".join(f"{100 * value:.2g}" for value in row_shares.values()) for row_shares in found]
    return Column(header, cells)


def _largest_residual(row: Row) -> str:
    stages = [row.measured[name].mean for name in row.measured if name.startswith("residual")]
    return f"{max(stages):.1e}" if stages else ""


def _cell(measured: Measured | None, form: Callable[[float], str]) -> str:
    if measured is None:
        return ""
    spread = f" ± {form(measured.std)}" if measured.std and form(measured.std) != form(0.0) else ""
    return f"{form(measured.mean)}{spread}"
