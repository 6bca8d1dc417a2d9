"""What makes two runs the same: which settings decide what a run computes, and which do not."""

import os
from collections.abc import Iterable, Iterator, Mapping

# Raise this when conf/ gains or loses a setting. Runs that were recorded under a lower number are compared by the
# settings that both sides have.
FORMAT = 6
# What runs did before these settings existed, as values of the settings.
_BEFORE = {
    "checkpoint": None,
    "data.sampling": "shuffled",
    "finetune.freeze": [],
    "finetune.freeze_batchnorm": False,
    "finetune.new_head": False,
    "loss.class_weights": "none",
    "loss.name": "cross_entropy",
    "model.attention.global_scale": None,
    "model.attention.landmark_gain": 1.0,
    "optimizer.layer_decay_min_scale": 0.0,
    "trainer.float32": "ieee",  # GPUs did round in convolutions, but no run on a GPU was recorded
}

# Top-level settings that say how a run is written, watched and started.
RECORDING = frozenset({"output_dir", "name", "resume", "preflight", "logger", "callbacks", "study", "process", "hydra"})
# Settings that say how the work lies on the machine. They change numbers only by rounding, or by the part of a batch
# that each device sees (in BatchNorm and mixup), and do not change the optimisation.
MACHINE = frozenset(
    {
        "data.cache",
        "data.num_workers",
        "data.val_batch_size",
        "model.attention.kernels",
        "trainer.accelerator",
        "trainer.channels_last",
        "trainer.compile",
        "trainer.deterministic",
        "trainer.device_memory",
        "trainer.devices",
        "trainer.enable_model_summary",
        "trainer.gpu_arch",
        "trainer.log_every_n_steps",
        "trainer.max_batch_per_device",
        "trainer.num_nodes",
        "trainer.num_sanity_val_steps",
        "trainer.oversubscribe",
        "trainer.profiler",
        "trainer.strategy",
        "trainer.timeout",
    }
)
# Settings of `MACHINE` that change how a step's images are shared out.
LAYOUT = frozenset({"trainer.accelerator", "trainer.devices", "trainer.max_batch_per_device", "trainer.num_nodes"})
# Settings that are one file or folder, which can be typed in several ways.
_PATHS = frozenset({"checkpoint", "data.root"})
# Settings that repeat others, or from which others are filled in.
_REPEATED = ("data.augment", "data.seed", "suggested")
_MARKERS = frozenset({"recipe", "_convert_"})  # `recipe` stood inside the groups of older configurations


def flatten(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted key, value) of nested mappings; lists are values."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


def _within(key: str, names: Iterable[str]) -> bool:
    """Return whether a dotted key is one of `names`, or lies in one that is a group."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def is_recording(key: str) -> bool:
    """Return whether a dotted key says how a run is written, watched or started."""
    return key.partition(".")[0] in RECORDING


def is_repeated(key: str) -> bool:
    """Return whether a dotted key only repeats other settings."""
    return _within(key, _REPEATED) or not _MARKERS.isdisjoint(key.split("."))


def identity(recipe: Mapping[str, object], varied: Iterable[str] = ()) -> dict[str, object]:
    """Return the settings, by dotted key, that two recipes share exactly when they compute the same.

    Args:
        recipe: a resolved configuration, as nested mappings.
        varied: keys, or whole groups, that a sweep varies. They count even if they would not otherwise.
    """
    folder = str(recipe.get("output_dir") or "")
    varied = tuple(varied)

    def counts(key: str) -> bool:
        if _within(key, varied):
            return True
        return not (is_recording(key) or is_repeated(key) or key in MACHINE)

    def compared(key: str, value: object) -> object:
        if not isinstance(value, str):
            return value
        if key in _PATHS and "://" not in value:
            value = os.path.abspath(os.path.expanduser(value))
        return value.removeprefix(folder)

    return {
        key: compared(key, value)
        for key, value in flatten(recipe)
        if value is not None and counts(key)  # null is the same as a setting that an older version did not have
    }


def same_run(ours: Mapping[str, object], theirs: Mapping[str, object], older: bool = False) -> bool:
    """Return whether two identities are of the same run.

    Args:
        older: whether `theirs` was recorded under another `FORMAT`. Then only settings that both sides have are
            compared, and those of which it is known what runs did before they existed.
    """
    return not _differing(ours, theirs, older)


def differences(
    ours: Mapping[str, object], theirs: Mapping[str, object], keys: Iterable[str] | None = None, older: bool = False
) -> list[str]:
    """Return what differs between two recipes, as `schedule.epochs=4 (was 2)`.

    Args:
        keys: dotted keys to compare; None for those that make a run what it is (`identity`).
        older: as in `same_run`.
    """
    typed, recorded = dict(flatten(ours)), dict(flatten(theirs))
    if keys is None:
        ours, theirs = identity(ours), identity(theirs)
    else:
        chosen = set(keys)
        ours, theirs = ({k: v for k, v in settings.items() if k in chosen} for settings in (typed, recorded))
    return [
        f"{key}={_shown(typed.get(key, our_value))} (was {_shown(recorded.get(key, their_value))})"
        for key, (our_value, their_value) in _differing(ours, theirs, older).items()
    ]


def _differing(
    ours: Mapping[str, object], theirs: Mapping[str, object], older: bool
) -> dict[str, tuple[object, object]]:
    """Return the two values of each setting that differs."""
    before = _BEFORE if older else {}
    keys = [key for key in {**ours, **theirs} if not older or key in before or (key in ours and key in theirs)]
    pairs = {key: (ours.get(key, before.get(key)), theirs.get(key, before.get(key))) for key in keys}
    return {
        key: (our_value, their_value) for key, (our_value, their_value) in pairs.items() if our_value != their_value
    }


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)
