"""A wrong value of the recipe is a sentence that names its key."""

import pytest

from soft.data.augmentation import Augmentation
from soft.errors import SettingError


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("crop_scale", [0.5, 1.2], "[0.5, 1.2]"),
        ("crop_scale", [0, 1], "[0, 1]"),
        ("crop_scale", [0.9, 0.5], "[0.9, 0.5]"),
        ("crop_scale", 0.5, "0.5"),
        ("crop_ratio", ["wide", 1], "['wide', 1]"),
        ("crop_ratio", [2.0, 1.0], "[2.0, 1.0]"),
        ("hflip", 1.5, "1.5"),
        ("hflip", "often", "'often'"),
        ("hflip", None, "None"),
        ("hflip", True, "True"),
        ("interpolation", "cubic", "'cubic'"),
        ("interpolation", ["bicubic"], "['bicubic']"),
        ("color_jitter", -0.1, "-0.1"),
        ("color_jitter", float("nan"), "nan"),
        ("erase_prob", -0.1, "-0.1"),
        ("mixup", -1, "-1"),
        ("mixup", "0.8x", "'0.8x'"),
        ("cutmix", float("inf"), "inf"),
        ("mixup_prob", 2, "2"),
        ("mixup_switch_prob", -1, "-1"),
        ("label_smoothing", 1.1, "1.1"),
        ("rand_augment", "rand-mm9", "rand-mm9"),
        ("rand_augment", "auto-m9", "auto-m9"),
        ("rand_augment", "rand-mstd1.2.3", "rand-mstd1.2.3"),
        ("rand_augment", "", ""),
        ("rand_augment", 9, "9"),
    ],
)
def test_a_wrong_value_names_its_key(field, value, shown):
    with pytest.raises(SettingError) as caught:
        Augmentation(**{field: value})

    message = caught.value.as_settings()
    assert message.startswith(f"augment.{field}={shown} ")
    assert message.endswith(".")
    assert "\n" not in message


def test_lists_from_yaml_become_tuples():
    augment = Augmentation(crop_scale=[0.5, 1])

    assert augment.crop_scale == (0.5, 1)
    assert hash(augment) == hash(Augmentation(crop_scale=(0.5, 1)))
