"""Words of a command arrive as the user meant them."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cli.command_line import ConfigError, as_typed, config_folders, parse, quote, rewrite
from cli.places import CONFIG_DIR, REPOSITORY

SIGNS = [
    "a=b",
    "a,b",
    "(x)",
    "[x]",
    "{x}",
    "#1",
    "a&b",
    "o'neill",
    "hi!",
    "~x",
    "é",
    "日本",
    "my run",
    'say "hi"',
    "a\\b",
]


def value_of(word):
    """Return what Hydra's grammar makes of an override's value."""
    value = OverridesParser.create().parse_override(word).value()
    return getattr(value, "text", value)


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("key", ["checkpoint", "data.root", "hydra.run.dir", "image", "sweep"])
def test_a_path_is_taken_as_it_stands(key, name):
    (word,) = rewrite([f"{key}=/data/{name}"], "train")
    assert value_of(word) == f"/data/{name}"
    assert rewrite([word], "train") == [word] or "\\" in name  # the job of a sweep gets the same


@pytest.mark.parametrize("name", SIGNS)
def test_what_is_printed_can_be_pasted(name):
    (typed,) = shlex.split(as_typed("checkpoint", f"/runs/{name}/best.ckpt"))
    assert value_of(rewrite([typed], "evaluate")[0]) == f"/runs/{name}/best.ckpt"


@pytest.mark.parametrize("name", SIGNS)
def test_quotes_mean_the_text(name):
    assert value_of(f"name={quote(name)}") == name


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert value_of(rewrite(["data.root=~/images"], "train")[0]) == "/home/me/images"
    assert value_of(rewrite(['checkpoint="~/best.ckpt"'], "evaluate")[0]) == "/home/me/best.ckpt"


def test_several_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (word,) = rewrite(["checkpoint=[a b.ckpt,c.ckpt]"], "visualize")
    assert value_of(word) == ["a b.ckpt", "c.ckpt"]
    (word,) = rewrite(["""checkpoint=["a, b's.ckpt", 'c,"d".ckpt', e.ckpt]"""], "visualize")
    assert value_of(word) == ["a, b's.ckpt", 'c,"d".ckpt', "e.ckpt"]
    (tmp_path / "[a]").touch()
    assert value_of(rewrite(["checkpoint=[a]"], "visualize")[0]) == "[a]"


def test_several_values_in_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rewrite(["-m", "checkpoint=a.ckpt,b.ckpt"], "evaluate") == ["--multirun", "checkpoint='a.ckpt','b.ckpt'"]
    assert rewrite(["-m", "hydra.sweep.dir=a,b"], "train") == ["--multirun", "hydra.sweep.dir='a,b'"]
    (tmp_path / "a,b").touch()
    assert rewrite(["-m", "checkpoint=a,b"], "evaluate")[1] == "checkpoint='a,b'"


@pytest.mark.parametrize(
    "word", ["seed=0,1", "trainer.devices=[0,1]", "optimizer.lr=1e-3", "resume=auto", "resume=null"]
)
def test_other_values_are_left_alone(word):
    assert rewrite([word], "train") == [word]


def test_a_split_is_typed_as_it_is_written():
    assert value_of(rewrite(["data.train_split=train[:90%]"], "train")[0]) == "train[:90%]"


def test_hyphens_of_a_sweep_agent():
    assert rewrite(["--optimizer.lr=0.01", "--seed=1"], "train") == ["optimizer.lr=0.01", "seed=1"]
    assert rewrite(["--cfg", "job", "seed=1"], "train") == ["--cfg=job", "seed=1"]


def test_a_config_folder_holds_for_jobs_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    for words in (["--config-dir=my"], ["--config-dir", "my"], [f"hydra.searchpath=[file://{tmp_path}/my]"]):
        (word,) = rewrite(words, "train")
        assert config_folders([word]) == [CONFIG_DIR, tmp_path / "my"]
        assert f"file://{REPOSITORY}" in word  # the studies stay


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["hydra.run.dir=my", "run"], "'hydra.run.dir=my run'"),
        (["seed"], "'seed' is not of the form key=value"),
        (["--config-dir=nowhere"], "not a folder"),
        (["--foo"], "--foo"),
        (["data=null"], "train needs data"),
        (["hydra.searchpath=x"], "list of folders"),
        (["--config-name=mine"], "--config-name=mine is no configuration of this project"),
    ],
)
def test_one_sentence_each(words, text):
    with pytest.raises(ConfigError) as caught:
        rewrite(words, "train")
    assert text in str(caught.value)


def test_a_group_that_is_optional_can_be_null():
    assert rewrite(["experiments=null"], "train") == rewrite(["data=null"], "evaluate") == []


def test_options_may_stand_anywhere():
    assert parse(["seed=0", "-m", "seed=1"]).overrides == ["seed=0", "seed=1"]
