"""What all generated tasks share: a data set whose examples are functions of (seed, split, index)."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from soft.settings import check_choice, check_whole

SPLITS = ("train", "val", "test")
TRIALS = 5  # successes that are waited for before a task is taken to be drawable


def succeeds_often(attempt: Callable[[], bool], attempts: int) -> bool:
    """Return whether attempts that are repeated up to `attempts` times for an example all but never fail altogether.

    One in `attempts`/25 has to succeed; an example then fails with a probability of e⁻²⁵.
    """
    found = 0
    for _ in range(TRIALS * attempts // 25):
        found += attempt()
        if found == TRIALS:
            return True
    return False


class GeneratedTask(Dataset, ABC):
    """Map-style data set of (input, label), drawn when asked for and the same every time.

    The number of workers, the order of access and other examples have no influence: each example has a random generator
    of its own, seeded with (seed, split, index, round).

    Args:
        size: number of examples.
        split: `train`, `val` or `test`; their examples are drawn independently of each other.
        seed: of the data; a run's own seed is another one, so that all runs see the same data.

    Attributes:
        class_names: one name per label.
        vocabulary: token ids are below this number.
        fields: token ids per position.
        grid: height and width in tokens; a sequence of N tokens is a grid of 1 x N.
    """

    class_names: list[str]
    vocabulary: int
    fields: int
    grid: tuple[int, int]

    def __init__(self, size: int, split: str, seed: int):
        check_choice("`data.split`", split, SPLITS)
        check_whole(f"`data.{split}_examples`", size, low=1)
        check_whole("`data.task_seed`", seed, low=0)
        self.size = size
        self.split = split
        self.seed = seed

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Draw one example: integers (fields, H, W) and the label."""

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the input, int64 (fields, H, W), and the label of example `index`."""
        return self.example(index)

    def example(self, index: int, round: int = 0) -> tuple[Tensor, int]:
        """Return the input, int64 (fields, H, W), and the label of example `index` of set number `round`.

        Args:
            index: from 0 up to `size`.
            round: number of a set of `size` examples, from 0; `self[index]` is of the first one.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"example {index} of {self.size}")
        # NumPy pads seeds with zeros, so round 0 has the generator of (seed, split, index) alone.
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index, round))
        tokens, label = self.draw(rng)
        return torch.from_numpy(tokens.astype(np.int64)), label
