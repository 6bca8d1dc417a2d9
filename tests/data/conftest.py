"""What the tests of the data floor share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def fashion_mnist_root() -> Path:
    root = Path(os.environ.get("SOFT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "FashionMNIST").is_dir():
        pytest.skip("no Fashion-MNIST; set SOFT_TEST_DATA to the folder that holds FashionMNIST/")
    return root
