"""Checks the settings of a recipe's trainer and callbacks before anything is built."""

import difflib
import inspect
from collections.abc import Mapping

from lightning.pytorch import Trainer

from soft.errors import SettingError
from soft.hardware.float32 import FLOAT32
from soft.launch.hardware import choose_hardware
from soft.runs.metrics import check_monitored, resolve_mode
from soft.settings import check_choice, check_flag, check_number, check_whole

PROFILERS = ("simple", "advanced", "pytorch")
# With each of these strategies every rank gets the whole gradient, which it needs to decide whether to skip a step.
STRATEGIES = ("auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_find_unused_parameters_true", "single_device")
# Arguments that are decided from other settings.
_DECIDED = frozenset(
    {
        *("accumulate_grad_batches", "callbacks", "enable_checkpointing", "enable_progress_bar", "logger", "plugins"),
        "use_distributed_sampler",
        *("global_batch", "lacking", "name"),  # arguments of `choose_hardware` that are no settings
    }
)
_OURS = frozenset({"channels_last", "compile", "float32", "timeout", "sync_batchnorm"})  # no arguments of Lightning's
_KNOWN = sorted(
    {*inspect.signature(Trainer).parameters, *inspect.signature(choose_hardware).parameters, *_OURS} - _DECIDED
)
_FLAGS = ("sync_batchnorm", "channels_last", "enable_model_summary", "oversubscribe")
_WHOLE = {
    "max_epochs": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": -1,
    "max_batch_per_device": 1,
}


def check_trainer_settings(settings: Mapping[str, object]) -> None:
    """Refuse settings of the group `trainer` that Lightning would refuse later, or would understand differently.

    Raises:
        SettingError: a setting does not fit; the message names the first one.
    """
    for name in settings:
        if name not in _KNOWN:
            close = [f"trainer.{known}" for known in difflib.get_close_matches(name, _KNOWN, n=2)]
            hint = f"; did you mean {' or '.join(close)}?" if close else "."
            raise SettingError(f"trainer.{name} is no setting, and no argument of Lightning's Trainer{hint}")
    for name in _FLAGS:
        if name in settings:
            check_flag(f"trainer.{name}", settings[name])
    for name, low in _WHOLE.items():
        if name in settings:
            check_whole(f"trainer.{name}", settings[name], low=low)
    max_steps = settings.get("max_steps", -1)
    if max_steps != -1:
        check_whole("trainer.max_steps", max_steps, low=1)
    for name in ("limit_train_batches", "limit_val_batches"):
        _check_limit(f"trainer.{name}", settings.get(name))
    if (clip := settings.get("gradient_clip_val")) is not None:
        check_number("trainer.gradient_clip_val", clip, low=0)
    if (deterministic := settings.get("deterministic", False)) != "warn":
        check_flag("trainer.deterministic", deterministic)
    if (profiler := settings.get("profiler")) is not None:
        check_choice("trainer.profiler", profiler, PROFILERS)
    check_number("trainer.timeout", settings.get("timeout", 30), low=0.1)
    check_choice("trainer.float32", settings.get("float32", "ieee"), FLOAT32)
    if settings.get("float32") == "tf32" and settings.get("compile"):
        raise SettingError(
            "trainer.float32=tf32 is not for compiled trainings, where it would round inside the attention core as "
            "well; leave out trainer.compile, or use trainer.precision=bf16-mixed."
        )
    check_choice("trainer.strategy", settings.get("strategy", "auto"), STRATEGIES)


def check_callbacks(recipe: Mapping[str, object]) -> None:
    """Refuse a monitored metric that the run does not log, or a `mode` that contradicts the metric.

    Only callbacks of this library and of Lightning are checked.

    Raises:
        SettingError: the metric or its `mode` does not fit; the message names it.
    """
    ema = recipe["ema"]
    for name, settings in recipe["callbacks"].items():
        if "monitor" not in settings or settings["monitor"] is None:
            continue
        own = str(settings.get("_target_", "")).startswith(("soft.", "lightning."))
        if own:
            check_monitored(
                settings["monitor"],
                ema=bool(ema["decay"]),
                validate_raw=ema["validate_raw"],
                setting=f"callbacks.{name}.monitor",
            )
        if "mode" in settings and own:
            resolve_mode(settings["monitor"], settings["mode"], f"callbacks.{name}.mode")


def _check_limit(name: str, value: object) -> None:
    """Refuse everything but None, a number of batches from 1, or a share above 0 and up to 1."""
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    share = isinstance(value, float) and 0 < value <= 1
    if not (whole or share):
        raise SettingError(f"{name}={value!r} has to be a number of batches (1, 2, ...) or a share of them (0.5).")
