"""The W&B dashboard as code: a workspace of the project's runs, and a report for each study.

It is built with wandb-workspaces, which needs no account until something is saved. Metrics, settings and tags have the
names under which runs log them.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from soft.errors import SettingError
from soft.studies.rows import label
from soft.studies.study import Study

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.reports.v2.interface import Panel
    from wandb_workspaces.workspaces import Workspace

BEST = "val/top1.max"  # W&B's name for the maximum of val/top1 in a run's summary
RESIDUALS, SHARES, KERNEL_MEANS = (
    [f"{name}_stage{stage}" for stage in (1, 2, 3)]
    for name in ("newton/residual", "attention/share", "attention/kernel_mean")
)
AXES = ("model.attention.num_landmarks", "model.attention.newton_iters")
_VIRIDIS = ((0, "#440154"), (50, "#21918c"), (100, "#fde725"))  # percent of the range of colours


def build_workspace(entity: str, project: str) -> "Workspace":
    """Build the project's workspace, in which runs are grouped by sweep.

    It shows curves, landmarks × iterations × top-1, the attention's share, residuals, throughput, images and the
    machine.
    """
    _, ws = _library()
    sections = {
        "Curves": _curves(),
        "Landmarks × iterations × top-1": [_heat_map(*AXES), _parallel(AXES)],
        "Attention": [_shares(), _kernel_means()],
        "Newton residual": [_residuals()],
        "Throughput and optimisation": [_throughput(), _line("Learning rate", "lr"), _line("Gradient", "grad_norm")],
        "Images": [_images("first_batch"), _images("attention_maps")],
        "Machine": [
            _line("GPU (%)", "system/gpu.0.gpu", x="_runtime"),
            _line("Memory (%)", "system/memory_percent", x="_runtime"),
        ],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="SOFT",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="trainer/global_step", max_runs=50),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric("Group")], order=[ws.Ordering(ws.Summary(BEST), ascending=False)]
        ),
    )


def build_report(study: Study, entity: str, project: str) -> "Report":
    """Build the report of a study: top-1 against what varies, and curves with a line for the seeds of one point."""
    wr, ws = _library()
    runs = wr.Runset(
        entity=entity,
        project=project,
        name=study.name,
        filters=ws.And(ws.Tags().isin([study.name])),
        groupby=[f"config.{key}" for key in study.varied],
    )
    bars = [
        wr.BarPlot(
            title=f"Best top-1 by {label(key)}",
            metrics=[wr.SummaryMetric(BEST)],
            groupby=wr.Config(key),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for key in study.varied
    ]
    maps = [_heat_map(*study.numeric)] if len(study.numeric) == 2 else []
    panels = {
        "Best top-1": [*bars, *maps, _parallel(dict.fromkeys([*study.varied, *AXES]))],
        "Curves": _curves(),
        "Attention": [_shares(), _kernel_means()],
        "Newton residual and throughput": [_residuals(), _throughput()],
        "Attention maps": [_images("attention_maps")],
    }
    command = f"python src/train.py -m experiments={study.name} logger=wandb"
    published = [wr.UnorderedList([_paper_line(entry) for entry in study.paper])] if study.paper else []
    return wr.Report(
        entity=entity,
        project=project,
        title=study.title,
        description=study.source,
        blocks=[
            wr.P(f"Runs tagged {study.name}, started by:"),
            wr.CodeBlock(command, language="markdown"),
            *([wr.P("What the paper reports:"), *published] if published else []),
            *(
                block
                for name, row in panels.items()
                for block in (wr.H2(name), wr.PanelGrid(runsets=[runs], panels=_placed(row)))
            ),
        ],
        width="fluid",
    )


def to_json(view: "Workspace | Report") -> dict[str, object]:
    """Return what W&B would be sent.

    A report would also hold the project's internal id, for which W&B is asked only when it is saved.
    """
    view = copy.deepcopy(view)
    for block in getattr(view, "blocks", []):
        for runs in getattr(block, "runsets", []):
            runs.entity = runs.project = ""
    return json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))


def outline(view: "Workspace | Report") -> Iterator[str]:
    """Yield a description of the view, line by line."""
    wr, ws = _library()
    if isinstance(view, ws.Workspace):
        yield f"workspace {view.name!r} in {view.entity}/{view.project}, runs grouped by sweep"
        parts = [(section.name, section.panels) for section in view.sections]
    else:
        grids = [block for block in view.blocks if isinstance(block, wr.PanelGrid)]
        headings = [block.text for block in view.blocks if isinstance(block, wr.H2)]
        filters = grids[0].runsets[0].filters
        yield f"report {view.title!r} in {view.entity}/{view.project}, {filters}"
        parts = [(name, grid.panels) for name, grid in zip(headings, grids, strict=True)]
    for name, panels in parts:
        yield f"  {name}"
        yield from (f"    {_describe(panel)}" for panel in panels)


def _library():
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise SettingError("The dashboard needs wandb-workspaces: pip install -e '.[dashboard]'.") from None
    return wr, ws


def _line(title: str, *metrics: str, x: str = "trainer/global_step", **options: object) -> "Panel":
    wr, _ = _library()
    return wr.LinePlot(title=title, x=x, y=list(metrics), **options)


def _curves() -> list["Panel"]:
    return [
        _line("Validation top-1 (%)", "val/top1", x="epoch"),
        _line("Validation loss", "val/loss", x="epoch"),
        _line("Training loss", "train/loss_epoch", x="epoch"),
    ]


def _residuals() -> "Panel":
    return _line("‖I − A·A⁺‖ / √m by stage", *RESIDUALS, x="epoch", log_y=True)


def _shares() -> "Panel":
    return _line("Share of the attention output that tells tokens apart, by stage", *SHARES, x="epoch", log_y=True)


def _kernel_means() -> "Panel":
    return _line("Mean of the kernel P by stage", *KERNEL_MEANS, x="epoch", log_y=True)


def _throughput() -> "Panel":
    return _line("Images per second", "images_per_second")


def _images(key: str) -> "Panel":
    wr, _ = _library()
    return wr.MediaBrowser(title=key.replace("_", " ").capitalize(), media_keys=[f"images/{key}"], num_columns=2)


def _parallel(settings: Sequence[str]) -> "Panel":
    wr, _ = _library()
    column = wr.ParallelCoordinatesPlotColumn
    columns = [column(wr.Config(key), display_name=label(key)) for key in settings]
    return wr.ParallelCoordinatesPlot(
        title="Settings against best top-1",
        columns=[*columns, column(wr.SummaryMetric(BEST), display_name="best top-1 (%)")],
    )


def _heat_map(x: str, y: str) -> "Panel":
    """Scatter the runs over two settings, coloured by their best top-1: W&B has no heat map over settings."""
    wr, _ = _library()
    colours = [wr.GradientPoint(color=colour, offset=offset) for offset, colour in _VIRIDIS]
    return wr.ScatterPlot(
        title=f"Best top-1 over {label(x)} and {label(y)}",
        x=wr.Config(x),
        y=wr.Config(y),
        z=wr.SummaryMetric(BEST),
        gradient=colours,
    )


def _placed(panels: Sequence["Panel"]) -> list["Panel"]:
    """Place the panels in pairs on the 24 columns of a report."""
    wr, _ = _library()
    for number, panel in enumerate(panels):
        panel.layout = wr.Layout(x=12 * (number % 2), y=8 * (number // 2), w=12, h=8)
    return list(panels)


def _paper_line(entry: dict[str, object]) -> str:
    where = ", ".join(f"{label(key)} {value}" for key, value in entry["when"].items())
    return f"{where}: " + ", ".join(f"{name} {value}" for name, value in entry.items() if name != "when")


def _describe(panel: "Panel") -> str:
    wr, _ = _library()
    if isinstance(panel, wr.LinePlot):
        what = f"{', '.join(panel.y)} over {panel.x}"
    elif isinstance(panel, wr.ParallelCoordinatesPlot):
        what = " × ".join(column.metric.name for column in panel.columns)
    elif isinstance(panel, wr.ScatterPlot):
        what = " × ".join(axis.name for axis in (panel.x, panel.y, panel.z))
    elif isinstance(panel, wr.BarPlot):
        what = f"{', '.join(metric.name for metric in panel.metrics)} by {panel.groupby.name}"
    else:
        what = ", ".join(panel.media_keys)
    return f"{panel.title}: {what}"
