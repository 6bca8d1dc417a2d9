"""Where the first trial of a search begins."""

import pytest

from hydra_plugins.search_space import holds

optuna = pytest.importorskip("optuna")


@pytest.mark.parametrize(
    ("distribution", "value", "held"),
    [
        (("CategoricalDistribution", [4, 9, 16]), 9, True),
        (("CategoricalDistribution", [4, 9, 16]), 49, False),
        (("FloatDistribution", 1e-3, 0.08), 0.016, True),
        (("FloatDistribution", 1e-3, 0.08), 0.5, False),
        (("FloatDistribution", 1e-3, 0.08), None, False),
        (("IntDistribution", 1, 20), 30, False),
    ],
)
def test_own_values_outside_of_the_space_are_not_tried(distribution, value, held):
    name, *arguments = distribution
    assert holds(getattr(optuna.distributions, name)(*arguments), value) is held
