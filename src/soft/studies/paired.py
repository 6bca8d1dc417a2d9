"""Statistics of results that are paired by seed: differences, what they could have shown, and shares of a gap.

A result is a mapping from seed to value. Two results are compared on the seeds that both have, so that what a seed does
to both (its data order, its initial weights) does not count as noise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
POWER = 0.8
Result = Mapping[object, float]


@dataclass(frozen=True)
class Estimate:
    """A mean over pairs of seeds with its confidence interval.

    There is none for a single pair, and none for pairs that all differ by the same amount other than 0: top-1 comes in
    steps of one image, so that a few differences can be equal although they are noisy.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int

    def excludes(self, value: float) -> bool | None:
        """Return whether the interval leaves `value` out; None without an interval."""
        return None if self.low is None else not self.low <= value <= self.high


def mean_difference(result: Result, reference: Result) -> Estimate | None:
    """Estimate result − reference with the interval of the paired t-test; None if they share no seed."""
    ours, theirs = _paired(result, reference)
    if not len(ours):
        return None
    mean = float((ours - theirs).mean())
    return Estimate(mean, *_interval(ours - theirs), len(ours))


def detectable_difference(result: Result, reference: Result) -> float | None:
    """Return the smallest true difference that these pairs of seeds would have shown with 80 % probability.

    This is the minimum detectable effect of the two-sided paired t-test at the 5 % level: the difference whose
    noncentral t distribution exceeds the critical value with that probability, for the spread of the differences that
    was seen. None for fewer than two pairs, and for pairs that all differ by the same amount, which show no spread.
    """
    ours, theirs = _paired(result, reference)
    pairs = len(ours)
    if pairs < 2 or _are_equal(ours - theirs):
        return None
    critical = stats.t.ppf((1 + CONFIDENCE) / 2, pairs - 1)
    noncentrality = special.nctdtrinc(pairs - 1, 1 - POWER, critical)
    return float(noncentrality * (ours - theirs).std(ddof=1) / math.sqrt(pairs))


def share_of_gap(result: Result, floor: Result, ceiling: Result) -> Estimate | None:
    """Estimate (result − floor) / (ceiling − floor) in percent, with its interval by the delta method.

    The ratio R of two means is linearised: (result − floor) − R·(ceiling − floor) has the mean 0 over the seeds, and
    its t interval divided by the mean gap is that of R.

    Returns:
        None if the three share no seed, or if the ceiling is not above the floor.
    """
    ours, low, high = _paired(result, floor, ceiling)
    if not len(ours) or (gap := (high - low).mean()) <= 0:
        return None
    ratio = (ours - low).mean() / gap
    below, above = _interval((ours - low) - ratio * (high - low))
    if below is None:
        return Estimate(float(100 * ratio), None, None, len(ours))
    return Estimate(float(100 * ratio), 100 * (ratio + below / gap), 100 * (ratio + above / gap), len(ours))


def _paired(*results: Result) -> list[np.ndarray]:
    """Return the values of each result on the seeds that all of them have, in the same order."""
    seeds = [seed for seed in results[0] if all(seed in result for result in results)]
    return [np.array([result[seed] for seed in seeds], dtype=float) for result in results]


def _are_equal(differences: np.ndarray) -> bool:
    return bool(np.ptp(differences) <= 1e-12 * np.abs(differences).max())


def _interval(differences: np.ndarray) -> tuple[float | None, float | None]:
    """Return the confidence interval of the mean, (None, None) where there is none; see `Estimate`."""
    if len(differences) < 2:
        return None, None
    if _are_equal(differences):
        return (0.0, 0.0) if not differences.any() else (None, None)
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return float(low), float(high)
