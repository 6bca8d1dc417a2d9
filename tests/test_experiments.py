"""Every point of every study composes, at both scales, and its model builds."""

import functools
import pickle
import re

import hydra
import pytest
import torch
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from cli.entry import SOURCES
from hydra_plugins.grid import expand, study_grids
from soft.models.factory import create_from_config

REPOSITORY = SOURCES.parent
STUDIES = sorted(path.stem for path in (REPOSITORY / "experiments").glob("*.yaml") if path.stem != "finetune")
TRAINED = [name for name in STUDIES if name != "sequence_length"]


@functools.cache
def jobs_of(study, scale, *typed):
    """The overrides of a study's runs."""
    words = [f"experiments={study}", f"scale={scale}", *typed]
    sweep = compose(*(word for word in words if "," not in word), whole=True)
    assert sweep.hydra.sweep.dir == f"outputs/experiments/{study}-{scale}"
    assert sweep.hydra.mode == RunMode.MULTIRUN
    return expand(study_grids(sweep), words, OverridesParser.create())


@functools.cache
def points(study, scale, *typed):
    """The resolved configurations of the runs, of the first seed alone."""
    jobs = [job for job in jobs_of(study, scale, *typed) if not {f"seed={seed}" for seed in (1, 2, 3, 4)} & set(job)]
    return [OmegaConf.to_container(point(job), resolve=True, throw_on_missing=True) for job in jobs]


def point(job):
    """Return the configuration of one run; those that differ in single settings alone are composed once."""
    settings = [word for word in job if "." in word.partition("=")[0]]
    config = pickle.loads(composed(*(word for word in job if word not in settings)))
    # As Hydra does it after it has composed the groups.
    ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(settings), config)
    return config


@functools.cache
def composed(*words):
    return pickle.dumps(compose(*words))


def compose(*overrides, whole=False):
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return hydra.compose("train", ["output_dir=x", *overrides], return_hydra_config=whole)


def scales(study):
    text = yaml.safe_load((REPOSITORY / "experiments" / f"{study}.yaml").read_text(encoding="utf-8"))
    return list(text["study"]["scales"])


@pytest.mark.parametrize(("study", "scale"), [(study, scale) for study in TRAINED for scale in scales(study)])
def test_every_point_composes_and_builds(study, scale):
    configs = points(study, scale)
    assert len(configs) > 1 or configs[0]["study"]["evaluate"]  # one training, evaluated in several ways
    assert len({str(config) for config in configs}) == len(configs)
    seeds = len(jobs_of(study, scale)) / len(configs)
    assert seeds == 1 if scale == "paper" else seeds in (3, 5)
    for config in configs:
        data, model = config["data"], config["model"]
        assert config["study"]["scale"] == scale
        if study == "long_range":
            assert (model["name"], model["layout"], model["global_pool"]) == ("soft_encoder", "sequence", "avg")
        elif scale == "laptop":
            assert (data["dataset"], model["name"]) == ("recall", "soft_encoder")
        elif scale == "images":
            assert (data["dataset"], data["img_size"], model["name"]) == ("imagenet", 64, "soft_pico")
        else:
            assert (data["dataset"], config["schedule"]["epochs"]) == ("imagenet", 300)
            assert config["trainer"]["num_nodes"] == 4
        with torch.device("meta"):
            create_from_config(model, data.get("num_classes") or 10, data["img_size"])


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_says_what_it_costs(study):
    text = (REPOSITORY / "experiments" / f"{study}.yaml").read_text(encoding="utf-8")
    head = text[: text.index("defaults:")]
    if study == "sequence_length":
        assert "python src/benchmark.py" in head
        return
    assert f"python src/train.py -m experiments={study} scale=paper" in head
    for scale in set(scales(study)) - {"paper"}:
        (runs,) = re.findall(
            rf"python src/train.py -m experiments={study} scale={scale}(?: data.root=\.\.\.)? +(\d+) (?:runs|models)",
            head,
        )
        assert int(runs) == len(jobs_of(study, scale))


@pytest.mark.parametrize("model", ["soft_pico", "soft_medium", "soft_encoder"])
def test_fine_tuning_composes_with_every_kind_of_model(model):
    cfg = compose("experiments=finetune", "checkpoint=x", f"model={model}", "data=cifar10", whole=True)
    assert cfg.hydra.mode != RunMode.MULTIRUN
    assert (cfg.data.dataset, cfg.schedule.sched, cfg.schedule.epochs, cfg.ema.decay) == ("cifar10", "cosine", 10, 0)
    assert (cfg.augment.mixup, cfg.optimizer.layer_decay) == (0, 0.9)
    typed = compose("experiments=finetune", "checkpoint=x", "augment=paper", "schedule=cosine_300", "optimizer.lr=1")
    assert (typed.augment.mixup, typed.optimizer.lr) == (0.8, 1)


def test_typed_settings_win():
    configs = points("landmarks", "laptop", "model.attention.num_landmarks=4,16", "seed=7", "data=digits")
    found = [(c["model"]["attention"].get("num_landmarks"), c["seed"]) for c in configs]
    assert found == [(4, 7), (16, 7), (None, 7), (None, 7)]  # the last are without attention, and with softmax
    assert configs[0]["data"]["dataset"] == "digits"


@pytest.mark.parametrize("study", TRAINED)
def test_published_figures_belong_to_points_of_the_study(study):
    configs = points(study, "paper")
    for entry in configs[0]["study"]["paper"]:
        assert any(all(_value(c, key) == value for key, value in entry["when"].items()) for c in configs), entry


def _value(config, dotted):
    for name in dotted.split("."):
        config = config.get(name, {})
    return config


def test_studies_are_listed_in_their_readme():
    readme = (REPOSITORY / "experiments" / "README.md").read_text(encoding="utf-8")
    for study in STUDIES:
        assert f"experiments={study}" in readme or f"{study}.yaml" in readme
