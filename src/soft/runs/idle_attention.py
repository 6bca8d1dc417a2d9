"""Tells from the logged shares of the attention whether it is at work in a run, or idle."""

from collections.abc import Mapping
from typing import TypeVar

SHARE = "attention/share"  # share of a block's attention output, from 0 to 1, logged by stage as attention/share_stage1
KERNEL_MEAN = "attention/kernel_mean"
MIN_SHARE = 0.01  # with a lower share in every stage, the attention's settings can hardly matter
READ_ON = "docs/attention.md"


Value = TypeVar("Value")  # a number, or a series of them


def by_stage(metrics: Mapping[str, Value], name: str = SHARE) -> dict[int, Value]:
    """Return the values that `metrics` has of the metric `name`, by stage and in the order of the stages."""
    prefix = f"{name}_stage"
    found = {int(key.removeprefix(prefix)): value for key, value in metrics.items() if key.startswith(prefix)}
    return dict(sorted(found.items()))


def idle_note(metrics: Mapping[str, float]) -> str | None:
    """Return a sentence if the share is below 1 % in every stage; None otherwise, or if no share was logged.

    Args:
        metrics: a run's last value of each metric.
    """
    shares = by_stage(metrics)
    if not shares or not all(share < MIN_SHARE for share in shares.values()):  # one may be NaN
        return None
    stage = max(shares, key=shares.get)
    return (
        f"The attention is hardly at work: what it adds differs between tokens by at most {100 * shares[stage]:.2g} % "
        f"of a block's attention output (stage {stage}), so its settings can hardly matter; read {READ_ON}."
    )


def show_stages(metrics: Mapping[str, float]) -> str | None:
    """Return shares and kernel means of all stages for a person; None if no share was logged."""
    shares, means = by_stage(metrics), by_stage(metrics, KERNEL_MEAN)
    if not shares:
        return None
    stages = f" in stages {' / '.join(map(str, shares))}" if len(shares) > 1 else ""
    text = f"{' / '.join(f'{100 * value:.2g}' for value in shares.values())} % of the attention output{stages}"
    return text + (f", mean of P {' / '.join(f'{value:.2g}' for value in means.values())}" if means else "")
