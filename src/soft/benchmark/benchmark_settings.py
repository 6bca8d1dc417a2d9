"""Checks of all settings of conf/benchmark.yaml, made before the first measurement."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path

from soft.attention import ATTENTIONS
from soft.attention.landmarks import landmark_side
from soft.benchmark.cores import LAYOUTS, grid_of
from soft.benchmark.gpu_check.parts import PARTS as GPU_CHECK
from soft.errors import SettingError
from soft.models.factory import check_model_name
from soft.settings import check_choice, check_flag, check_number, check_whole

PARTS = ("attention", "model", "loader", "overhead", "gpu")


def check_benchmark(settings: Mapping[str, object], recipes: Collection[str]) -> None:
    """Refuse settings that a part could not measure.

    Args:
        settings: conf/benchmark.yaml as plain containers.
        recipes: names of the augmentations that the loader part knows.

    Raises:
        SettingError: names the first setting that does not fit.
    """
    check_each("parts", settings["parts"], lambda name, value: check_choice(name, value, PARTS))
    if settings["threads"] is not None:
        check_whole("threads", settings["threads"], low=1)
    check_whole("seed", settings["seed"], low=0)
    for part in PARTS[:-1]:
        check_whole(f"{part}.rounds", settings[part]["rounds"], low=1)
    _check_attention(settings["attention"])
    model = settings["model"]
    check_each("model.names", model["names"], check_model_name)
    for name in ("batch_sizes", "img_sizes"):
        check_each(f"model.{name}", model[name], _whole(32 if name == "img_sizes" else 1))
    check_number("model.drop_path_rate", model["drop_path_rate"], low=0, high=0.99)
    loader = settings["loader"]
    check_each("loader.augments", loader["augments"], lambda name, value: check_choice(name, value, recipes))
    check_whole("loader.batch_size", loader["batch_size"], low=2)
    if loader["batch_size"] % 2:
        raise SettingError(f"loader.batch_size={loader['batch_size']} has to be even: Mixup pairs images.")
    if loader["root"] is not None and not (Path(loader["root"]) / "train").is_dir():
        raise SettingError(f"loader.root={loader['root']} has no train/ folder; null writes images for the run.")
    check_whole("loader.images", loader["images"], low=loader["batch_size"])
    check_each("loader.size", loader["size"], _whole(16), count=2)
    check_whole("loader.quality", loader["quality"], low=1)
    gpu = settings["gpu"]
    check_each("gpu.parts", gpu["parts"], lambda name, value: check_choice(name, value, GPU_CHECK))
    check_number("gpu.seconds", gpu["seconds"], low=1)
    if gpu["small"] is not None:
        check_flag("gpu.small", gpu["small"])
    train = settings["overhead"]["train"]
    if not (isinstance(train, list) and all(isinstance(word, str) and "=" in word for word in train)):
        raise SettingError(f"overhead.train={train!r} has to be a list of settings of src/train.py, such as [seed=1].")
    for name in ("steps", "starts"):
        check_whole(f"overhead.{name}", settings["overhead"][name], low=1)


def _check_attention(attention: Mapping[str, object]) -> None:
    check_model_name("attention.model", attention["model"])
    check_each("attention.names", attention["names"], lambda name, value: check_choice(name, value, ATTENTIONS))
    check_each("attention.layouts", attention["layouts"], lambda name, value: check_choice(name, value, LAYOUTS))
    for name in ("tokens", "pyramid"):
        check_each(f"attention.{name}", attention[name], _whole(224 if name == "pyramid" else 1))
    for name in ("batch_size", "slope_from", "num_landmarks", "most_trained"):
        check_whole(f"attention.{name}", attention[name], low=1)
    check_number("attention.longest", attention["longest"], low=0.001)
    smallest_side = math.isqrt(min(attention["tokens"]))
    side = landmark_side(attention["num_landmarks"], (smallest_side, smallest_side))
    for tokens in attention["tokens"]:
        grid_of(tokens, side)


def check_each(name: str, values: object, check, count: int | None = None) -> None:
    """Refuse all but a list (of length `count`, if given) whose every value passes `check(name, value)`."""
    if not isinstance(values, list) or not values or count not in (None, len(values)):
        raise SettingError(f"{name}={values!r} has to be a list of {count or 'at least one'}, in brackets.")
    for value in values:
        check(name, value)


def _whole(minimum: int):
    return lambda name, value: check_whole(name, value, minimum)
