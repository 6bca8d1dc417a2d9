"""Builds the recipe's optimiser and schedule with timm."""

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from soft.errors import SettingError
from soft.settings import check_choice, check_flag, check_number, check_whole

MIN_LR = 1e-12
REFERENCE_BATCH = 1024  # the global batch for which a recipe states its learning rates


def scaled_lr(lr: float, global_batch: int) -> float:
    """Return the learning rate at a global batch, by the linear rule: lr · batch / 1024."""
    return lr * global_batch / REFERENCE_BATCH


def build_optimizer(
    model: nn.Module, global_batch: int, opt: str, lr: float, **options: object
) -> torch.optim.Optimizer:
    """Build timm's optimiser `opt` over the recipe's parameter groups, at the scaled learning rate.

    Biases, 1-D parameters and the parameters that `model.no_weight_decay()` names have no weight decay.

    Args:
        model: the network whose parameters are trained.
        global_batch: images in an optimiser step.
        opt: timm's name of the optimiser.
        lr: learning rate at a global batch of 1024.
        options: further arguments of that optimiser, such as `weight_decay`, `betas`, `momentum`, `layer_decay`.

    Raises:
        SettingError: the optimiser is unknown, or does not take a setting.
    """
    check_number("optimizer.lr", lr, low=MIN_LR)
    for key in ("weight_decay", "eps", "momentum"):
        if options.get(key) is not None:
            check_number(f"optimizer.{key}", options[key], low=0)
    if options.get("layer_decay") is not None:
        check_number("optimizer.layer_decay", options["layer_decay"], low=MIN_LR, high=1)
    check_number("optimizer.layer_decay_min_scale", options.get("layer_decay_min_scale", 0), low=0, high=1)
    if options.get("betas") is not None:
        _check_betas(options["betas"])
    if opt not in list_optimizers():
        raise SettingError(f"optimizer.opt={opt!r} is not an optimizer of timm, such as adamw, lamb or sgd.")
    try:
        return create_optimizer_v2(model, opt, lr=scaled_lr(lr, global_batch), **options)
    except Exception as error:  # each optimiser of timm has checks of its own, or none
        raise SettingError(f"optimizer.opt={opt!r} does not take these optimizer settings: {error}.") from error


def _check_betas(betas: object) -> None:
    listed = isinstance(betas, list | tuple) and len(betas) > 0
    if not (listed and all(isinstance(b, int | float) and not isinstance(b, bool) and 0 <= b < 1 for b in betas)):
        raise SettingError(f"optimizer.betas={betas!r} has to be a list of numbers from 0 up to, but not including, 1.")


def fuse_step(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Choose the fused step for parameters on a CPU, if the optimiser has one, as AdamW does; return the optimiser.

    The fused step updates a parameter in one pass over memory. PyTorch never chooses it by itself, and its own loop of
    single operations takes five times as long on a CPU. On other devices PyTorch's choice is fast, and a fused step
    cannot be combined with gradient clipping in float16.
    """
    for group in optimizer.param_groups:
        chosen = group.get("fused", False) is not None or group.get("foreach") is not None
        if not chosen and all(parameter.device.type == "cpu" for parameter in group["params"]):
            group["fused"] = True
    return optimizer


def keep_settings(optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """Change a saved state in place, so that `optimizer` keeps its own rates and options when it loads the state.

    Raises:
        SettingError: the state has other parameter groups than the optimiser.
    """
    own = optimizer.state_dict()["param_groups"]
    saved = state["param_groups"]
    if [len(group["params"]) for group in own] != [len(group["params"]) for group in saved]:
        raise SettingError(
            "The checkpoint's optimizer has other parameter groups than this one; resume with the model.*, "
            "optimizer.opt, optimizer.weight_decay and optimizer.layer_decay that it was trained with."
        )
    # What only the saved groups hold is kept, because some optimisers of timm count their steps there.
    state["param_groups"] = [{**theirs, **ours} for theirs, ours in zip(saved, own, strict=True)]


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    global_batch: int,
    steps_per_epoch: int,
    sched: str,
    epochs: int,
    warmup_epochs: int = 0,
    warmup_lr: float = 0.0,
    min_lr: float = 0.0,
    per_epoch: bool = False,
    steps: int | None = None,
) -> Scheduler:
    """Build timm's schedule over `epochs`; in the first `warmup_epochs` the rate rises linearly from `warmup_lr`.

    Args:
        optimizer: the optimiser whose rate is set.
        global_batch: images in an optimiser step.
        steps_per_epoch: optimiser steps in an epoch.
        sched: cosine or constant.
        epochs: passes over the training data, warm-up included.
        warmup_epochs: epochs of the warm-up; 0 for none.
        warmup_lr: rate at which the warm-up starts, at a global batch of 1024.
        min_lr: lowest rate, at a global batch of 1024. `warmup_lr` and `min_lr` are scaled like the learning rate;
            otherwise the lowest rate could lie above the learning rate of a small batch.
        per_epoch: change the rate once an epoch, as the released code does, instead of at every step.
        steps: optimiser steps of the whole training, to which the schedule is fitted in proportion; None for `epochs`
            times `steps_per_epoch`.

    Raises:
        SettingError: a setting is out of range.
    """
    check_whole("schedule.epochs", epochs, low=1)
    check_whole("schedule.warmup_epochs", warmup_epochs, low=0)
    if warmup_epochs and warmup_epochs >= epochs:
        raise SettingError(
            f"schedule.warmup_epochs={warmup_epochs} has to be less than schedule.epochs={epochs}; "
            "schedule.warmup_epochs=0 leaves the warm-up out."
        )
    check_number("schedule.warmup_lr", warmup_lr, low=0)
    check_number("schedule.min_lr", min_lr, low=0)
    check_choice("schedule.sched", sched, ("cosine", "constant"))
    check_flag("schedule.per_epoch", per_epoch)
    length, warmup = epochs * steps_per_epoch, warmup_epochs * steps_per_epoch
    if steps is not None and steps != length:
        length, warmup = steps, round(warmup * steps / length)
    if per_epoch:
        length, warmup = -(-length // steps_per_epoch), round(warmup / steps_per_epoch)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched,
        num_epochs=length,
        warmup_epochs=warmup,
        warmup_lr=scaled_lr(warmup_lr, global_batch),
        min_lr=scaled_lr(min_lr, global_batch),
        step_on_epochs=per_epoch,
        updates_per_epoch=1,  # the lengths are in steps already
    )
    return scheduler
