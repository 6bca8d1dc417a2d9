"""The words that a training gets from the model of its checkpoint."""

import sys

import pytest
import timm
import torch

import soft  # noqa: F401 - registers the models
from cli.checkpoint_model import add_checkpoint_model
from cli.command_line import ConfigError, rewrite
from soft.models.metadata import KEY, Metadata

RECORDED = {
    "name": "soft_pico",
    "drop_path_rate": 0.0,
    "grad_checkpointing": True,
    "attention": {
        "attention": "soft_norm",
        "num_landmarks": 4,
        "newton_iters": 20,
        "sampling": "avgpool",
        "global_scale": "auto",
    },
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, **changes):
        model = timm.create_model("soft_pico", num_classes=2, device="meta")
        weights = {key: torch.zeros(()) for key in model.state_dict()}  # words need none of them
        torch.save({"state_dict": weights, KEY: Metadata({**RECORDED, **changes}).to_dict()}, name)

    return write


def added(monkeypatch, *words, command="train"):
    words = rewrite(words, command)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    add_checkpoint_model(command)
    assert sys.argv[1 : 1 + len(words)] == words
    return sys.argv[1 + len(words) :]


def test_only_what_differs_from_the_default_is_added(write, monkeypatch):
    write("a.ckpt")
    words = ["model=soft_pico", "model/attention=soft_norm", "model.attention.num_landmarks=4"]
    assert added(monkeypatch, "checkpoint=a.ckpt") == [*words, "model.attention.sampling='avgpool'"]


def test_a_model_from_before_soft_pico_had_its_start_keeps_the_former_scale(write, monkeypatch):
    write("a.ckpt", attention={"attention": "soft"})
    assert added(monkeypatch, "checkpoint=a.ckpt") == ["model=soft_pico", "model.attention.global_scale=null"]


def test_what_is_typed_is_left_alone(write, monkeypatch):
    write("a.ckpt")
    typed = ("checkpoint=a.ckpt", "model.attention.num_landmarks=9", "experiments=finetune")
    words = ["model=soft_pico", "model/attention=soft_norm", "model.attention.sampling='avgpool'"]
    assert added(monkeypatch, *typed) == words
    assert added(monkeypatch, "checkpoint=a.ckpt", "model/attention=softmax") == ["model=soft_pico"]
    assert added(monkeypatch, "checkpoint=a.ckpt", "model=soft_tiny") == []


def test_arguments_that_the_configuration_does_not_have(write, monkeypatch):
    write("a.ckpt", attention="softmax", mlp_ratio=3.0, depths=(1, 1, 1, 1))
    words = ["model=soft_pico", "model/attention=softmax", "+model.mlp_ratio=3.0", "+model.depths=[1, 1, 1, 1]"]
    assert added(monkeypatch, "checkpoint=a.ckpt") == words


@pytest.mark.parametrize(
    "words",
    [
        ["checkpoint=null"],
        ["data=digits"],
        ["experiments=landmarks", "checkpoint=a.ckpt"],  # the study says which models
        ["checkpoint=a.ckpt", "--help"],
        ["checkpoint=a.ckpt", "data=nothing"],  # Hydra says what is wrong
    ],
)
def test_nothing_is_added(words, write, monkeypatch):
    write("a.ckpt")
    assert added(monkeypatch, *words) == []


def test_other_commands_choose_their_model_themselves(write, monkeypatch):
    write("a.ckpt")
    assert added(monkeypatch, "checkpoint=a.ckpt", command="evaluate") == []


def test_a_search_varies_what_the_checkpoint_says(write, monkeypatch):
    write("a.ckpt")
    found = added(monkeypatch, "checkpoint=a.ckpt", "hparams_search=optuna")
    assert found == ["model=soft_pico", "model/attention=soft_norm", "model.attention.sampling='avgpool'"]


def test_a_sweep_over_checkpoints_has_one_model(write, monkeypatch):
    write("a.ckpt")
    write("b.ckpt")
    write("c.ckpt", drop_path_rate=0.2)
    assert "model=soft_pico" in added(monkeypatch, "-m", "checkpoint=a.ckpt,b.ckpt", "seed=0,1")
    with pytest.raises(ConfigError, match=r"checkpoint=a.ckpt and c.ckpt have different models"):
        added(monkeypatch, "-m", "checkpoint=a.ckpt,c.ckpt")


def test_a_checkpoint_may_be_named_by_the_environment(write, monkeypatch):
    write("a.ckpt")
    monkeypatch.setenv("CKPT", "a.ckpt")
    assert added(monkeypatch, "checkpoint=${oc.env:CKPT}") == added(monkeypatch, "checkpoint=a.ckpt")
