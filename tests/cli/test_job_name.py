"""The names of the runs of a sweep."""

import pytest
from omegaconf import OmegaConf

from cli.job_name import short_name, varied_settings


def varied(*typed, params=None, **more):
    sweep = {"hydra": {"overrides": {"task": list(typed)}, "sweeper": {"params": params, **more}}}
    return varied_settings(OmegaConf.create(sweep), None)


def test_what_varies():
    assert varied("seed=0,1", "model=soft_tiny") == {"seed"}
    assert varied("seed=0", "model=soft_tiny") == set()
    assert varied("+model.depths=[1,1,1,1],[1,1,2,1]", "model/attention=soft,softmax") == {
        "model.depths",
        "model/attention",
    }
    # Two grids share the setting seed, which is held at the typed value.
    assert varied("seed=0", params=[{"t": [1, 5], "seed": [0, 1]}, {"inverse": ["svd"], "seed": [0, 1]}]) == {
        "t",
        "inverse",
    }


def test_what_varies_in_a_search():
    params = {"optimizer.lr": "interval(1e-3, 1e-2)", "model.attention.num_landmarks": "choice(4, 9)"}
    assert varied("optimizer.lr=1e-3", "seed=0,1", params=params, trials=5) == {"model.attention.num_landmarks", "seed"}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"model.attention.num_landmarks": "4", "seed": "0"}, "num_landmarks=4 seed=0"),
        ({"model/attention": "soft", "model.depths": "[1,1,2,1]"}, "attention=soft depths=[1,1,2,1]"),
        ({"optimizer.lr": "0.003216789123", "data.img_size": "28"}, "lr=0.003217 img_size=28"),
        ({"optimizer.lr": "1e-3"}, "lr=1e-3"),
        ({"data.hflip": "0.5", "augment.hflip": "0"}, "data.hflip=0.5 augment.hflip=0"),
        ({}, ""),
    ],
    ids=str,
)
def test_short_names(values, name):
    assert short_name(values) == name
