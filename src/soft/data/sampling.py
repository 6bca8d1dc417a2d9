"""Which image comes when, and with which random numbers.

The order of an epoch follows from (seed, epoch) and the augmentation of an image from (seed, epoch, index). Nothing
depends on what ran before, on the number of workers or on how many devices share the work, so a run that is stopped in
the middle of an epoch can continue with the very same batches.
"""

import math
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler


def seed_generators(*entropy: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators from integers such as seed, epoch and index.

    Args:
        entropy: integers >= 0.
    """
    # The length goes in as well, because SeedSequence pads with zeros: (1, 5) and (1, 5, 0) would be the same to it.
    words = np.random.SeedSequence((len(entropy), *entropy)).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch_seed = int(words[2]) << 32 | int(words[3])
    # torch.manual_seed takes 0.1 ms where CUDA is unused, half of what loading a small image may take.
    torch.default_generator.manual_seed(torch_seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(torch_seed)


SAMPLINGS = ("shuffled", "balanced")


class EpochSampler(Sampler[tuple[int, ...]]):
    """Sampler of one rank's share of each epoch's random order, as (epoch, index) pairs.

    Optimiser step t of an epoch uses the images order[t·G : (t+1)·G], where G is the global batch. Inside a step,
    rank r of W takes order[t·G + (j·W + r)·b :][:b] as its micro-batch j of b images. How a step is split over devices
    and accumulated micro-batches therefore never changes which images are in it. The incomplete last step is dropped.

    Args:
        size: number of images in the data set.
        seed: together with the epoch it fixes the order.
        global_batch: images per optimiser step, over all ranks and accumulated micro-batches.
        per_device_batch: images per micro-batch, b.
        num_replicas: number of ranks, W; `per_device_batch · num_replicas` divides `global_batch`.
        rank: the rank of this process, from 0.
        start: where the first pass begins if a run is resumed: (epoch, micro-batches of it already done). `len` stays
            that of a whole epoch, because Lightning counts in whole epochs.
        shares: (size,), how likely each image is to be drawn, with replacement; None for each image once an epoch. The
            n-th repetition of an image is drawn as (epoch, index, n), so that each is augmented in its own way.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        global_batch: int,
        per_device_batch: int,
        num_replicas: int = 1,
        rank: int = 0,
        start: tuple[int, int] = (0, 0),
        shares: np.ndarray | None = None,
    ):
        if global_batch % (per_device_batch * num_replicas):
            raise ValueError(f"{num_replicas} ranks x {per_device_batch} images do not divide {global_batch}")
        self.size = size
        self.seed = seed
        self.global_batch = global_batch
        self.per_device_batch = per_device_batch
        self.num_replicas = num_replicas
        self.rank = rank
        self.start = start
        self.shares = shares
        self.epoch = start[0]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        steps = self.size // self.global_batch
        return steps * self.global_batch // self.num_replicas

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        epoch = self.epoch
        generator = np.random.default_rng((self.seed, epoch))
        if self.shares is None:
            return ((epoch, index) for index in self._mine(generator.permutation(self.size)))
        drawn = generator.choice(self.size, self.size, p=self.shares / self.shares.sum())
        pairs = zip(self._mine(drawn), self._mine(count_repetitions(drawn)), strict=True)
        return ((epoch, index, n) if n else (epoch, index) for index, n in pairs)

    def _mine(self, order: np.ndarray) -> list[int]:
        """Return this rank's share of what is left of an epoch."""
        whole_steps = order[: len(self) * self.num_replicas]
        mine = whole_steps.reshape(-1, self.num_replicas, self.per_device_batch)[:, self.rank]
        start_epoch, done = self.start
        return (mine[done:] if self.epoch == start_epoch else mine).ravel().tolist()


def count_repetitions(values: np.ndarray) -> np.ndarray:
    """Return how often each entry's value has come before it, (N,) -> (N,): [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    first = np.searchsorted(ordered, ordered)
    repetitions = np.empty_like(by_value)
    repetitions[by_value] = np.arange(len(values)) - first
    return repetitions


def balanced_shares(labels: np.ndarray) -> np.ndarray:
    """Return (N,) shares with which every class that has images is drawn equally often, given labels (N,) from 0."""
    return 1 / np.bincount(labels)[labels]


class EvalSampler(Sampler[int]):
    """Sampler of one rank's share for evaluation: indices rank, rank + W, rank + 2W ... and no padding.

    `torch.utils.data.DistributedSampler` repeats images until the ranks are level, which makes the measured accuracy
    depend on the number of devices. Here each image is seen exactly once, so ranks may differ by one image.

    Args:
        size: number of images in the data set.
        num_replicas: number of ranks, W.
        rank: the rank of this process, from 0.
        spread: take the indices in an order of which every beginning is spread evenly over the data set, for an
            evaluation that ends early; class folders have the images of a class one after the other.
    """

    def __init__(self, size: int, num_replicas: int = 1, rank: int = 0, spread: bool = False):
        order = spread_order(size) if spread else range(size)
        self.indices = order[rank::num_replicas]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def spread_order(size: int) -> list[int]:
    """Return 0 to size - 1 in an order of which every beginning is spread evenly over them.

    They are sorted by the fractional parts of their multiples of the golden ratio. Equal distances would meet one class
    alone in data whose classes take turns.
    """
    return np.argsort(np.arange(size) * (math.sqrt(5) - 1) / 2 % 1, kind="stable").tolist()
