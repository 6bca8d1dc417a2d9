"""The numbers of the recipe: learning rates and parameter groups."""

import math

import pytest
import timm
import torch

import soft  # noqa: F401 - registers the models
from soft.errors import SettingError
from soft.training.optim import build_optimizer, build_scheduler, fuse_step, scaled_lr

PAPER = {"sched": "cosine", "epochs": 300, "warmup_epochs": 10, "warmup_lr": 1e-6, "min_lr": 5e-5}
STEPS = 1251  # steps of an ImageNet epoch at batch 1024


@pytest.fixture(scope="module")
def model():
    return timm.create_model("soft_pico")


def paper_rate(epoch: float, lr: float = 1e-3) -> float:
    """Return the paper's learning rate at an epoch, which can be a fraction."""
    if epoch < 10:
        return 1e-6 + epoch * (lr - 1e-6) / 10
    return 5e-5 + 0.5 * (lr - 5e-5) * (1 + math.cos(math.pi * epoch / 300))


@pytest.mark.parametrize("step", [0, 1, 700, 10 * STEPS - 1, 10 * STEPS, 20_000, 150 * STEPS, 300 * STEPS - 1])
def test_rate_at_every_step(model, step):
    optimizer = build_optimizer(model, 1024, "adamw", 1e-3)
    scheduler = build_scheduler(optimizer, 1024, STEPS, **PAPER)
    if step:
        scheduler.step_update(step)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(paper_rate(step / STEPS), rel=1e-9)


@pytest.mark.parametrize("epoch", [1, 9, 10, 11, 150, 299])
def test_released_rate_once_an_epoch(model, epoch):
    optimizer = build_optimizer(model, 1024, "adamw", 1e-3)
    scheduler = build_scheduler(optimizer, 1024, STEPS, **PAPER, per_epoch=True)
    scheduler.step(epoch)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(paper_rate(epoch), rel=1e-9)


def test_rates_scale_with_the_batch(model):
    assert scaled_lr(1e-3, 256) == pytest.approx(2.5e-4)
    optimizer = build_optimizer(model, 256, "adamw", 1e-3)
    scheduler = build_scheduler(optimizer, 256, STEPS, **PAPER)
    scheduler.step_update(300 * STEPS)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(5e-5 / 4)


def test_constant_stays(model):
    optimizer = build_optimizer(model, 1024, "adamw", 1e-3)
    scheduler = build_scheduler(optimizer, 1024, STEPS, sched="constant", epochs=5)
    scheduler.step_update(3 * STEPS)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_decay_groups(model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, 1024, "adamw", 1e-3, weight_decay=0.05)
    decay = {group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in optimizer.param_groups}
    assert set(decay) == {0.0, 0.05}
    assert decay[0.0] | decay[0.05] == set(names.values())
    for name, parameter in model.named_parameters():
        plain = name.endswith(".bias") or parameter.ndim <= 1 or name.endswith("cls_token")
        assert name in decay[0.0 if plain else 0.05], name
    assert "stages.0.pos_embed" in decay[0.05]


@pytest.mark.parametrize(
    ("opt", "options"),
    [
        ("adamw", {"weight_decay": 0.05, "eps": 1e-8, "betas": [0.9, 0.999], "layer_decay": None}),
        ("adamw", {"weight_decay": 0.05, "layer_decay": 0.75}),
        ("lamb", {"weight_decay": 0.02, "eps": 1e-6, "betas": [0.9, 0.999]}),
        ("sgd", {"weight_decay": 1e-4, "momentum": 0.9}),
    ],
)
def test_every_optimizer_steps(opt, options):
    model = timm.create_model("soft_pico", num_classes=3)
    optimizer = build_optimizer(model, 64, opt, 1e-2, **options)
    before = model.head.weight.clone()
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, before)


def test_a_fused_step_is_the_same_step():
    models, optimizers = [], []
    for fuse in (fuse_step, lambda optimizer: optimizer):
        torch.manual_seed(0)
        model = timm.create_model("soft_pico", num_classes=3, dtype=torch.float64)
        optimizer = fuse(build_optimizer(model, 1024, "adamw", 1e-3, weight_decay=0.05))
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 3, 32, 32, dtype=torch.float64)).square().sum().backward()
            optimizer.step()
        models.append(model)
        optimizers.append(optimizer)
    assert [{group["fused"] for group in optimizer.param_groups} for optimizer in optimizers] == [{True}, {None}]
    for fused, looped in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(fused, looped, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("opt", "options"), [("lamb", {}), ("adamw", {"foreach": True}), ("adamw", {"fused": False})])
def test_an_optimizer_without_a_fused_step_or_with_a_choice_stays(model, opt, options):
    optimizer = build_optimizer(model, 64, opt, 1e-3, **options)
    before = [group.get("fused") for group in optimizer.param_groups]
    assert [group.get("fused") for group in fuse_step(optimizer).param_groups] == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"opt": "adamx", "lr": 1e-3}, "optimizer.opt='adamx'"),
        ({"opt": "adamw", "lr": 0}, "optimizer.lr=0"),
        ({"opt": "adamw", "lr": "fast"}, "optimizer.lr='fast'"),
        ({"opt": "adamw", "lr": 1e-3, "weight_decay": -1}, "optimizer.weight_decay=-1"),
        ({"opt": "adamw", "lr": 1e-3, "beta_three": 0.9}, "beta_three"),
    ],
)
def test_optimizer_errors(model, arguments, text):
    with pytest.raises(SettingError, match=text):
        build_optimizer(model, 64, **arguments)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 0}, "schedule.epochs=0"),
        ({"epochs": 2.5}, "schedule.epochs=2.5"),
        ({"warmup_epochs": 300}, "less than schedule.epochs"),
        ({"sched": "cosin"}, "cosine, constant"),
        ({"min_lr": -1}, "schedule.min_lr=-1"),
    ],
)
def test_schedule_errors(model, change, text):
    optimizer = build_optimizer(model, 1024, "adamw", 1e-3)
    with pytest.raises(SettingError, match=text):
        build_scheduler(optimizer, 1024, STEPS, **{**PAPER, **change})
