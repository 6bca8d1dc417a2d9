"""The statistics on numbers with known answers."""

import math

import numpy as np
import pytest
from scipy import stats

from soft.studies.paired import detectable_difference, mean_difference, share_of_gap

OURS = {0: 91.0, 1: 88.5, 2: 90.5, 3: 93.0, 4: 89.0}
THEIRS = {0: 89.5, 1: 88.0, 2: 87.5, 3: 91.0, 4: 88.0}


def by_seed(values):
    return dict(enumerate(values))


def test_difference_is_scipys():
    found = mean_difference(OURS, THEIRS)
    expected = stats.ttest_rel(list(OURS.values()), list(THEIRS.values())).confidence_interval(0.95)
    assert (found.mean, found.pairs) == (pytest.approx(1.6), 5)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.excludes(0)
    assert not found.excludes(1)


def test_a_known_interval():
    """Student's sleep data, whose paired interval is in every textbook: 1.58 from 0.70 to 2.46."""
    drug_1 = by_seed([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    drug_2 = by_seed([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    found = mean_difference(drug_2, drug_1)
    assert (found.mean, found.low, found.high) == pytest.approx((1.58, 0.7001, 2.4599), abs=1e-4)


def test_only_seeds_of_both_are_paired():
    found = mean_difference(OURS | {7: 0.0}, {4: 88.0, 9: 1.0, 0: 89.5, 2: 87.5})
    alone = mean_difference({s: OURS[s] for s in (0, 2, 4)}, {s: THEIRS[s] for s in (0, 2, 4)})
    assert (found.pairs, found.mean) == (3, pytest.approx(alone.mean))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert mean_difference({0: 1.0}, {1: 1.0}) is None


def test_pairing_takes_out_what_a_seed_does_to_both():
    shift = by_seed([0.0, 10.0, -20.0, 30.0, 5.0])
    shifted = [{seed: value + shift[seed] for seed, value in result.items()} for result in (OURS, THEIRS)]
    found, expected = mean_difference(*shifted), mean_difference(OURS, THEIRS)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_pair_has_no_interval():
    found = mean_difference({0: 90.0}, {0: 80.0})
    assert (found.mean, found.low, found.high, found.pairs) == (10.0, None, None, 1)
    assert found.excludes(0) is None
    assert detectable_difference({0: 90.0}, {0: 80.0}) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("by", "interval", "real"), [(0.0, (0.0, 0.0), False), (12.3, (None, None), None)])
def test_equal_differences_are_no_finding(by, interval, real):
    """Top-1 comes in steps of one image, so that equal differences are no sign of a small spread."""
    reference = {0: 100.0, 1: 100.0, 2: 99.9}
    result = {seed: value - by for seed, value in reference.items()}
    found = mean_difference(result, reference)
    assert found.mean == pytest.approx(-by)
    assert (found.low, found.high) == interval
    assert (found.pairs, found.excludes(0)) == (3, real)
    assert detectable_difference(result, reference) is None


def test_noise_alone_looks_real_in_one_of_twenty_studies_at_most():
    """Also where top-1 is rounded to steps of a small validation set, and two seeds often differ by the same."""
    random, steps = np.random.default_rng(0), 1.0
    studies = [[by_seed(np.round(random.normal(80, 0.7, 2) / steps) * steps) for _ in range(2)] for _ in range(1000)]
    assert sum(bool(mean_difference(*study).excludes(0)) for study in studies) <= 60


@pytest.mark.parametrize(
    ("pairs", "effect"),  # in standard deviations of the differences, two-sided 5 %, 80 % power
    [(5, 1.682), (10, 0.996), (20, 0.660), (34, 0.495)],
)
def test_detectable_difference_is_that_of_power_tables(pairs, effect):
    differences = np.random.default_rng(0).normal(size=pairs)
    found = detectable_difference(by_seed(differences), by_seed(np.zeros(pairs)))
    assert found == pytest.approx(effect * differences.std(ddof=1), rel=2e-3)


@pytest.mark.parametrize("pairs", [3, 5])
def test_detectable_differences_are_detected_in_four_of_five_studies(pairs):
    random = np.random.default_rng(1)
    spread = math.sqrt(2.0)
    effect = detectable_difference(by_seed(np.arange(pairs)), by_seed(np.zeros(pairs)))
    effect *= spread / np.arange(pairs).std(ddof=1)
    studies = random.normal(effect, spread, size=(20_000, pairs))
    low, high = stats.ttest_1samp(studies, 0, axis=1).confidence_interval(0.95)
    assert ((low > 0) | (high < 0)).mean() == pytest.approx(0.8, abs=0.01)


def test_share_of_the_gap():
    floor, ceiling = by_seed([10.0, 12.0, 11.0]), by_seed([100.0, 99.0, 100.0])
    assert share_of_gap(floor, floor, ceiling).mean == 0
    found = share_of_gap(ceiling, floor, ceiling)
    assert (found.mean, found.low, found.high) == pytest.approx((100, 100, 100))
    half = {seed: (floor[seed] + ceiling[seed]) / 2 for seed in floor}
    found = share_of_gap(half, floor, ceiling)
    assert (found.mean, found.low, found.high) == pytest.approx((50, 50, 50))


def test_share_of_a_constant_gap_is_a_scaled_difference():
    floor, ceiling = by_seed([10.0] * 5), by_seed([90.0] * 5)
    found, plain = share_of_gap(OURS, floor, ceiling), mean_difference(OURS, floor)
    expected = [100 * value / 80 for value in (plain.mean, plain.low, plain.high)]
    assert [found.mean, found.low, found.high] == pytest.approx(expected)


def test_the_interval_of_a_share_holds_in_19_of_20_studies():
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(2000):
        floor, ceiling = random.normal(20, 2, 5), random.normal(95, 2, 5)
        found = share_of_gap(by_seed(random.normal(65, 4, 5)), by_seed(floor), by_seed(ceiling))
        covered += not found.excludes(60)
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_no_share_without_a_gap():
    low, high = by_seed([10.0, 11.0]), by_seed([9.0, 10.0])
    assert share_of_gap(low, low, high) is None
    assert share_of_gap({5: 1.0}, low, high) is None
    assert share_of_gap({0: 10.0}, {0: 5.0}, {0: 15.0}).low is None
