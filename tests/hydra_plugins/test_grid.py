"""The jobs that follow from a study's grids and typed settings."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cli.command_line import ConfigError
from hydra_plugins.grid import expand

GRIDS = [{"t": [1, 5], "seed": [0, 1]}, {"inverse": ["cholesky", "svd"], "seed": [0, 1]}]


def jobs(grids, *typed):
    return [" ".join(job) for job in expand(grids, list(typed), OverridesParser.create())]


def test_union_of_grids():
    assert jobs(GRIDS, "held=x") == [
        f"{point} seed={seed} held=x" for point in ("t=1", "t=5", "inverse=cholesky", "inverse=svd") for seed in (0, 1)
    ]


def test_typed_values_replace_those_of_the_grids_that_vary_them():
    assert jobs(GRIDS, "t=2,3", "seed=7") == [
        "t=2 seed=7",
        "t=3 seed=7",
        "inverse=cholesky seed=7",
        "inverse=svd seed=7",
    ]


def test_one_typed_value_holds_everywhere_and_nothing_runs_twice():
    assert jobs(GRIDS, "inverse=svd", "t=5", "seed=0") == ["t=5 seed=0 inverse=svd", "inverse=svd seed=0 t=5"]
    assert jobs([{"t": [1, 2]}, {"t": [2, 3]}]) == ["t=1", "t=2", "t=3"]


def test_lists_and_texts_are_values_too():
    assert jobs([{"+depths": [[1, 1], [1, 2]]}]) == ["+depths=[1,1]", "+depths=[1,2]"]
    assert jobs([{"t": "range(1,3)"}]) == ["t=1", "t=2"]
    assert jobs([{}], "a=1,2") == ["a=1", "a=2"]
    assert jobs([{}], "a=1,2", "b=x,y") == ["a=1 b=x", "a=1 b=y", "a=2 b=x", "a=2 b=y"]


def test_one_study_at_a_time():
    with pytest.raises(ConfigError, match="more than one study"):
        jobs([{}], "experiments=landmarks,sampling")
