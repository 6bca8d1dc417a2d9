"""The metrics that a run logs, and which way each of them gets better."""

import difflib
from collections.abc import Mapping

from soft.errors import SettingError

# The direction in which a metric gets better, by the last part of its name.
_DIRECTIONS = {"top1": "max", "top5": "max", "loss": "min", "loss_epoch": "min"}
VALIDATED = ("val/top1", "val/top5", "val/loss")
RAW = ("val_raw/top1", "val_raw/top5", "val_raw/loss")  # metrics of the raw weights, logged if there is an average
PERCENT = ("top1", "top5")

# Whether the maximum or the minimum of a metric summarises a run in a logger.
BEST = {name: _DIRECTIONS[name.rpartition("/")[2]] for name in (*VALIDATED, *RAW)}


def direction(metric: str) -> str | None:
    """Return `max` or `min` for a metric that has a best value, and None for any other."""
    name = metric.rpartition("/")[2]
    return "min" if name.startswith("residual") else _DIRECTIONS.get(name)


def is_percent(metric: str) -> bool:
    """Return whether a metric is logged in percent."""
    return metric.rpartition("/")[2] in PERCENT


def show_metric(metric: str, value: float) -> str:
    """Return a metric's value for a person."""
    return f"{value:.2f} %" if is_percent(metric) else f"{value:.4g}"


def resolve_mode(metric: str, mode: str = "auto", setting: str = "callbacks.checkpoint.mode") -> str:
    """Return the direction, `max` or `min`, in which `metric` is monitored.

    Args:
        mode: `max`, `min`, or `auto` for the direction that the metric's name implies.
        setting: the name of `mode` for messages.

    Raises:
        SettingError: `mode` contradicts the metric, or has to be given because the metric says nothing.
    """
    known = direction(metric)
    if mode not in ("auto", "max", "min"):
        raise SettingError(f"{setting}={mode!r} is not known; it is one of auto, max, min.")
    if mode == "auto":
        if known is None:
            raise SettingError(f"{setting} has to be max or min, because {metric} does not say which is better.")
        return known
    if known not in (None, mode):
        raise SettingError(f"{setting}={mode} contradicts {metric}, of which the {known} is the best; leave it out.")
    return mode


def check_monitored(metric: str, ema: bool, validate_raw: bool, stages: int = 3, setting: str = "monitor") -> None:
    """Refuse a metric that no validation logs.

    Args:
        ema: whether the run averages its weights.
        validate_raw: whether it validates the raw weights too.
        stages: number of attention stages, each of which has metrics of its own.
        setting: the name of `metric` for messages.

    Raises:
        SettingError: there is no such metric in this run.
    """
    known = [*VALIDATED, *(RAW if ema and validate_raw else ()), "train/loss_epoch"]
    by_stage = ("newton/residual", "attention/share", "attention/kernel_mean")
    known += [f"{name}_stage{stage}" for name in by_stage for stage in range(1, stages + 1)]
    if metric in known:
        return
    near = difflib.get_close_matches(str(metric), known, n=1, cutoff=0.5) or ["val/top1"]
    raw = " val_raw/* is logged with ema.decay above 0 and ema.validate_raw=true." if metric in RAW else ""
    raise SettingError(f"{setting}={metric} is not a metric of this run; did you mean {near[0]}?{raw}")


def best_of(values: Mapping[str, list[tuple[float, float]]], metric: str, mode: str) -> tuple[float, float] | None:
    """Return (epoch, value) of the best of a metric's series (`soft.runs.result.read_metrics`); None without any."""
    series = values.get(metric)
    return {"max": max, "min": min}[mode](series, key=lambda pair: pair[1]) if series else None
