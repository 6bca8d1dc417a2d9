"""Which settings make a run another one."""

from pathlib import Path

import pytest
import yaml

from soft.runs.identity import MACHINE, differences, flatten, identity, same_run

RECIPE = {
    "output_dir": "/runs/a",
    "seed": 0,
    "name": "x",
    "logger": {"csv": {"save_dir": "/runs/a"}},
    "callbacks": {"progress": {"every": 60}},
    "data": {"root": "/images", "num_workers": 2, "augment": {"mixup": 0.8}, "seed": 0, "split": None},
    "trainer": {"precision": "32-true", "devices": 1, "max_batch_per_device": 128},
    "suggested": {"lr": 1e-3},
}


def changed(key, value):
    """Return the recipe with one setting changed, given by its dotted key."""
    group, _, name = key.partition(".")
    return {**RECIPE, group: {**RECIPE.get(group, {}), name: value} if name else value}


ASIDE = ["output_dir", "name", "logger.csv", "callbacks.x", "study.name", "suggested.lr", *sorted(MACHINE)]


@pytest.mark.parametrize("key", ASIDE)
def test_what_does_not_make_another_run(key):
    assert identity(changed(key, "other")) == identity(RECIPE)


@pytest.mark.parametrize("key", ["seed", "data.root", "trainer.precision", "trainer.max_steps", "checkpoint"])
def test_what_makes_another_run(key):
    assert identity(changed(key, "other")) != identity(RECIPE)
    assert differences(changed(key, "other"), RECIPE)[0].startswith(f"{key}=other (was ")


@pytest.mark.parametrize("key", ["data.root", "checkpoint"])
def test_a_path_may_be_typed_in_several_ways(key, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    ways = ["images", "images/", "./images", "~/images", str(tmp_path / "images"), "other/../images"]
    assert all(same_run(identity(changed(key, "images")), identity(changed(key, way))) for way in ways)
    assert differences(changed(key, "images/"), changed(key, "~/other")) == [f"{key}=images/ (was ~/other)"]
    assert differences(changed(key, "s3://a//b"), changed(key, "s3://a/b")) == [f"{key}=s3://a//b (was s3://a/b)"]


def data_keys():
    """Return the dotted keys of all data sets' settings."""
    shared = [Path("conf/base/images.yaml"), Path("conf/base/task.yaml"), *Path("src/soft/data/facts").glob("*.yaml")]
    for file in shared:
        yield from (f"data.{key}" for key, _ in flatten(yaml.safe_load(file.read_text())))
    for file in Path("conf/data").glob("*.yaml"):
        tree = yaml.safe_load(file.read_text())
        yield from (key for key, _ in flatten(tree) if key.startswith("data."))


def test_every_setting_of_the_data_counts():
    """A setting counts whatever its name begins with: data.seed_distance of Pathfinder is no data.seed."""
    keys = {key for key in data_keys() if not key.endswith("_convert_")}
    aside = {key for key in keys if identity(changed(key, "other")) == identity(changed(key, "one"))}
    assert {"data.seed_distance", "data.dataset", "data.path"} <= keys
    assert aside == {"data.augment", "data.seed"} | (keys & MACHINE)


def test_what_a_sweep_varies_counts():
    other = changed("trainer.devices", 2)
    assert identity(other, ["trainer.devices"]) != identity(RECIPE, ["trainer.devices"])
    assert identity(other, ["trainer"]) != identity(RECIPE, ["trainer"])


def test_a_folder_that_has_moved():
    first, second = ({"output_dir": f"/runs/{name}", "x": f"/runs/{name}/y"} for name in "ab")
    assert identity(first) == identity(second)


def test_an_older_run_is_compared_by_what_it_had():
    old, new = {"seed": 0}, {"seed": 0, "model.gain": 1.0}
    assert same_run(new, old, older=True)
    assert not same_run(new, old)
    assert not same_run({**new, "seed": 1}, old, older=True)


@pytest.mark.parametrize(
    ("key", "published"),
    [("model.attention.landmark_gain", 1.0), ("model.attention.global_scale", None), ("trainer.float32", "ieee")],
)
def test_an_older_run_has_what_was_done_before_a_setting_existed(key, published):
    old = {"seed": 0}
    assert same_run({"seed": 0, key: published}, old, older=True)
    assert not same_run({"seed": 0, key: 16.0}, old, older=True)
    assert differences({"seed": 0, key: 16.0}, old, older=True) == [f"{key}=16.0 (was {published or 'nothing'})"]


def test_the_kernels_of_the_attention_are_the_machines():
    other = changed("model.attention.kernels", "triton")
    assert identity(other) == identity(RECIPE)
    assert differences(other, RECIPE, keys=MACHINE, older=True) == []
    assert identity(other, ["model.attention.kernels"]) != identity(RECIPE, ["model.attention.kernels"])


def test_null_is_the_same_as_nothing():
    assert identity(changed("data.split", None)) == identity(RECIPE) != identity(changed("data.split", "test"))
