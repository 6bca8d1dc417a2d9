"""Metrics, and which way they get better."""

import pytest

from soft.errors import SettingError
from soft.runs.metrics import best_of, check_monitored, resolve_mode, show_metric


@pytest.mark.parametrize(
    ("metric", "mode"), [("val/top1", "max"), ("val_raw/top5", "max"), ("val/loss", "min"), ("train/loss_epoch", "min")]
)
def test_a_metric_says_which_way_is_better(metric, mode):
    assert resolve_mode(metric) == resolve_mode(metric, mode) == mode
    with pytest.raises(SettingError, match="contradicts"):
        resolve_mode(metric, {"max": "min", "min": "max"}[mode])


def test_a_metric_of_the_users_own_needs_a_mode():
    assert resolve_mode("my/metric", "min") == "min"
    with pytest.raises(SettingError, match="has to be max or min"):
        resolve_mode("my/metric")
    with pytest.raises(SettingError, match="is not known"):
        resolve_mode("val/top1", "most")


def test_only_what_the_run_logs_is_monitored():
    check_monitored("val_raw/top1", ema=True, validate_raw=True)
    check_monitored("newton/residual_stage2", ema=False, validate_raw=False)
    for metric, ema in (("val_raw/top1", False), ("val/topp1", True), ("top1", True)):
        with pytest.raises(SettingError, match="is not a metric of this run"):
            check_monitored(metric, ema=ema, validate_raw=True)


def test_best_of_a_series():
    series = {"val/loss": [(1.0, 0.5), (2.0, 0.25), (3.0, 0.75)]}
    assert best_of(series, "val/loss", "min") == (2.0, 0.25)
    assert best_of(series, "val/top1", "max") is None


def test_percent_only_where_it_is():
    assert show_metric("val/top1", 12.345) == "12.35 %" or show_metric("val/top1", 12.345) == "12.34 %"
    assert "%" not in show_metric("val/loss", 2.3)
