"""Every file of conf/ composes, and every model config builds what it names."""

from pathlib import Path

import hydra
import pytest
import timm
import torch
from omegaconf import OmegaConf

from soft.attention import ATTENTIONS, attention_options
from soft.models.factory import create_from_config

CONF = Path(__file__).resolve().parents[1] / "conf"
GROUPS = ("augment", "callbacks", "data", "logger", "model", "model/attention", "optimizer", "schedule", "trainer")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
MODELS = [name for group, name in OPTIONS if group == "model"]
OmegaConf.register_new_resolver("run_id", lambda: "0000", replace=True)


def compose(*overrides: str):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides), return_hydra_config=False)


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes(group, name):
    cfg = compose(f"{group}={name}", "output_dir=x")
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert {"model", "data", "augment", "optimizer", "schedule", "trainer", "logger", "callbacks"} <= set(resolved)


def test_every_model_has_a_config():
    assert set(MODELS) == set(timm.list_models("soft_*"))


@pytest.mark.parametrize("name", MODELS)
def test_model_config_names_its_model(name):
    cfg = compose(f"model={name}")
    assert cfg.model.name == name
    assert cfg.model.attention.attention == ("soft_norm" if name.startswith("soft_norm") else "soft")


def test_every_attention_has_a_config_that_names_its_options():
    assert {name for group, name in OPTIONS if group == "model/attention"} == set(ATTENTIONS)
    for name in ATTENTIONS:
        group = compose(f"model/attention={name}").model.attention
        assert group.attention == name
        assert list(group) == ["attention", *attention_options(name)]


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", ["soft_pico", "soft_norm_tiny", "soft_encoder"])
def test_every_attention_is_built_from_its_config(name, attention):
    cfg = compose(f"model={name}", f"model/attention={attention}")
    with torch.device("meta"):
        model = create_from_config(OmegaConf.to_container(cfg.model, resolve=True), num_classes=10)
    attn = model.stages[0 if name == "soft_encoder" else 2].blocks[0].attn
    assert type(attn) is ATTENTIONS[attention]
    if attention == "nystromformer":
        usual = {"soft_pico": 9, "soft_norm_tiny": 49, "soft_encoder": 16}[name]
        assert attn.num_landmarks == cfg.suggested.num_landmarks == usual


# SPEC section 4: learning rate at batch 1024, plain and normalised.
RATES = {
    "tiny": (1e-3, 1e-3),
    "small": (1e-3, 1e-3),
    "medium": (3.5e-4, 4e-4),
    "large": (3.3e-4, 3.5e-4),
    "huge": (2.7e-4, 2.7e-4),
}


@pytest.mark.parametrize("size", RATES)
@pytest.mark.parametrize("norm", [False, True])
def test_paper_recipe(size, norm):
    cfg = compose(f"model=soft_{'norm_' if norm else ''}{size}", "trainer=v100_ddp")
    assert cfg.optimizer.lr == RATES[size][norm]
    assert (cfg.data.dataset, cfg.data.batch_size, cfg.data.img_size, cfg.data.crop_pct) == ("imagenet", 1024, 224, 0.9)
    assert (cfg.optimizer.opt, cfg.optimizer.weight_decay, cfg.optimizer.eps) == ("adamw", 0.05, 1e-8)
    assert list(cfg.optimizer.betas) == [0.9, 0.999]
    assert (cfg.schedule.sched, cfg.schedule.epochs, cfg.schedule.warmup_epochs) == ("cosine", 300, 10)
    assert (cfg.schedule.warmup_lr, cfg.schedule.min_lr, cfg.ema.decay) == (1e-6, 5e-5, 0.99996)
    assert (cfg.augment.mixup, cfg.augment.cutmix, cfg.augment.label_smoothing) == (0.8, 1.0, 0.1)
    assert (cfg.augment.mixup_prob, cfg.augment.mixup_switch_prob) == (1.0, 0.5)
    assert (cfg.augment.rand_augment, cfg.augment.erase_prob) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert (cfg.trainer.devices, cfg.trainer.num_nodes, cfg.trainer.precision) == (8, 4, "32-true")
    assert (cfg.trainer.max_epochs, cfg.trainer.gradient_clip_val) == (300, 1.0)
    assert cfg.model.drop_path_rate == 0.1


def test_what_is_suggested_is_taken_up_and_can_be_overridden():
    cfg = compose("model=soft_medium", "schedule=constant", "data=cifar10")
    assert (cfg.optimizer.lr, cfg.schedule.epochs, cfg.schedule.warmup_epochs) == (3.5e-4, 20, 2)
    assert (cfg.model.attention.num_landmarks, cfg.ema.decay, cfg.ema.warmup) == (49, 0.998, True)
    cfg = compose("suggested.lr=1", "suggested.num_landmarks=4", "schedule.epochs=7", "suggested.epochs=9")
    assert (cfg.optimizer.lr, cfg.model.attention.num_landmarks, cfg.schedule.epochs) == (1, 4, 7)


@pytest.mark.parametrize("choice", ["data=images", "model=paper", "model=model", "optimizer=optimizer"])
def test_bases_are_not_offered(choice):
    assert (CONF / "base" / f"{choice.partition('=')[2]}.yaml").is_file()
    with pytest.raises(hydra.errors.MissingConfigException):
        compose(choice)


def test_what_a_model_brings_can_be_overridden():
    cfg = compose("model=soft_medium", "data=digits", "augment=none", "schedule=constant", "optimizer.lr=1")
    assert (cfg.data.dataset, cfg.augment.mixup, cfg.schedule.sched, cfg.optimizer.lr) == ("digits", 0.0, "constant", 1)


def test_imagenet_root(monkeypatch):
    monkeypatch.delenv("IMAGENET_ROOT", raising=False)
    assert compose("data=imagenet").data.root == "data/imagenet"
    monkeypatch.setenv("IMAGENET_ROOT", "/images")
    assert compose("data=imagenet").data.root == "/images"
    assert compose("data=imagenet", "data.root=/mine").data.root == "/mine"
