"""What an evaluation does otherwise than the training is named; two ways to write one thing are no difference."""

import pytest

from soft.data.preprocessing import preprocessing_differences

TRAINED = {
    "img_size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "class_names": ["a"],
}


@pytest.mark.parametrize(
    ("change", "phrases"),
    [
        ({}, []),
        ({"img_size": [32, 32], "mean": (0.5, 0.5, 0.5), "crop_pct": 1, "class_names": ["b"]}, []),
        ({"img_size": [32, 64]}, ["img_size is [32, 64], but 32 in training"]),
        (
            {"mean": (0.4, 0.5, 0.5), "crop_pct": 0.9},
            ["mean is [0.4, 0.5, 0.5], but [0.5, 0.5, 0.5] in training", "crop_pct is 0.9, but 1.0 in training"],
        ),
    ],
)
def test_differences(change, phrases):
    assert preprocessing_differences(TRAINED, TRAINED | change) == phrases


def test_what_an_older_file_does_not_say_is_not_compared():
    assert preprocessing_differences({"img_size": 32}, TRAINED | {"mean": [0, 0, 0]}) == []
