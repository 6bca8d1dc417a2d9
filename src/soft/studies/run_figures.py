"""The curves of one run."""

from collections.abc import Mapping, Sequence
from itertools import islice

from soft.runs.idle_attention import KERNEL_MEAN, MIN_SHARE, SHARE, by_stage
from soft.runs.metrics import RAW, is_percent
from soft.studies.figures import Figure, Series
from soft.studies.single_run import SingleRun

MAX_POINTS = 1000  # of a line; of more, neighbours are averaged
RESIDUAL = "newton/residual"
Values = Sequence[tuple[float, float]]


def curves(run: SingleRun) -> list[Figure]:
    """Return loss, top-1 and any other monitored metric over the epochs, with the best value marked."""
    metrics, averaged = run.metrics, RAW[0] in run.metrics
    own = "averaged weights" if averaged else "validation"
    train = "train/loss_epoch" if "train/loss_epoch" in metrics else "train/loss"
    loss = {
        train: "training, with augmentation" if run.has_pictures else "training",
        "val/loss": own,
        "val_raw/loss": "raw weights",
    }
    figures = [
        _over_epochs("loss", "Loss", "cross-entropy (nats)", _named(metrics, loss)),
        _over_epochs("top1", "Top-1", "top-1 (%)", _named(metrics, {"val/top1": own, "val_raw/top1": "raw weights"})),
    ]
    monitored, _ = run.monitored
    if monitored not in (*loss, "val/top1", "val_raw/top1"):
        unit = f"{monitored} (%)" if is_percent(monitored) else monitored
        figures.append(_over_epochs("monitored", monitored, unit, _named(metrics, {monitored: monitored})))
    if run.best is not None and run.best[0] is not None:
        shows = {"val/loss": 0, "val_raw/loss": 0, train: 0, "val/top1": 1, "val_raw/top1": 1}.get(monitored, 2)
        if figures[shows] is not None:
            figures[shows].series.append(Series("best", [run.best[0]], [run.best[1]], [None]))
    return [figure for figure in figures if figure is not None]


def training_figures(run: SingleRun) -> list[Figure]:
    """Return learning rate, gradient norm, speed and skipped steps of the training."""
    metrics = run.metrics
    skipped = metrics.get("skipped_steps", [])
    figures = [
        _over_epochs("lr", "Learning rate", "learning rate", _named(metrics, {"lr": ""})),
        _over_epochs("grad_norm", "Gradient norm", "L2 norm", _named(metrics, {"grad_norm": ""}), log_y=True),
        _over_epochs(
            "speed", "Training speed", f"{run.example}s per second", _named(metrics, {"images_per_second": ""})
        ),
        _over_epochs("skipped", "Skipped steps", "steps", {"": skipped} if any(n for _, n in skipped) else {}),
    ]
    return [figure for figure in figures if figure is not None]


def attention_figures(run: SingleRun) -> list[Figure]:
    """Return the attention's share, the mean of P and the residual of the inverse, by stage."""
    shares = {
        name: [(epoch, 100 * share) for epoch, share in values] for name, values in _stages(run.metrics, SHARE).items()
    }
    figures = [
        _over_epochs(
            "share", "Attention's share", "of the attention output (%)", shares, log_y=True, low=100 * MIN_SHARE
        ),
        _over_epochs("kernel_mean", "Mean of the kernel P", "mean of P", _stages(run.metrics, KERNEL_MEAN), log_y=True),
        _over_epochs(
            "residual", "Residual of the inverse", "‖I − A·A⁺‖ / √m", _stages(run.metrics, RESIDUAL), log_y=True
        ),
    ]
    return [figure for figure in figures if figure is not None]


def _stages(metrics: Mapping[str, Values], name: str) -> dict[str, Values]:
    return {f"stage {stage}": values for stage, values in by_stage(metrics, name).items()}


def _named(metrics: Mapping[str, Values], names: Mapping[str, str]) -> dict[str, Values]:
    return {text: metrics[name] for name, text in names.items() if name in metrics}


def _over_epochs(
    file: str, title: str, y_label: str, lines: Mapping[str, Values], log_y: bool = False, low: float | None = None
) -> Figure | None:
    """Return a figure of series over the epochs; None without any.

    Args:
        low: height of a line below which the attention is hardly at work.
    """
    series = []
    for name, values in lines.items():
        shown = thinned([(epoch, value) for epoch, value in values if not log_y or value > 0])
        if shown:
            epochs, heights = zip(*shown, strict=True)
            series.append(Series(name, list(epochs), list(heights), [None] * len(shown)))
    if not series:
        return None
    references = [] if low is None else [("below in every stage: hardly at work", low)]
    whole = all(epoch == int(epoch) for one in series for epoch in one.x)
    return Figure(file, title, "epoch", y_label, series, log_y=log_y, references=references, every_x=whole)


def thinned(values: Values, limit: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Return at most `limit` points, each the mean of equally many neighbours; the last may have fewer."""
    size = -(-len(values) // limit)
    if size <= 1:
        return list(values)
    rest, found = iter(values), []
    while part := list(islice(rest, size)):
        found.append((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)))
    return found
