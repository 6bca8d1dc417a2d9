"""How images reach a network: what a checkpoint keeps of it, and what an evaluation compares."""

from collections.abc import Mapping

PREPROCESSING = ("img_size", "mean", "std", "crop_pct", "interpolation")


def preprocessing_differences(trained: Mapping[str, object], used: Mapping[str, object]) -> list[str]:
    """Return a phrase for each setting of PREPROCESSING that is not what a network was trained with.

    Args:
        trained, used: as `ImageDataModule.preprocessing` gives them. What `trained` lacks is not compared.
    """
    return [
        f"{name} is {as_plain(used[name])}, but {as_plain(trained[name])} in training"
        for name in PREPROCESSING
        if name in trained and _comparable(trained[name]) != _comparable(used[name])
    ]


def as_plain(value: object) -> object:
    """Return tuples as lists, as they come back from a file."""
    return list(value) if isinstance(value, (list, tuple)) else value


def _comparable(value: object) -> object:
    """Return lists as tuples, and both sides of a square as one."""
    value = tuple(value) if isinstance(value, (list, tuple)) else value
    return value[0] if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1] else value
