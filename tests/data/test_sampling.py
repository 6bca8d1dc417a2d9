"""Order and randomness follow from seed, epoch and index; every layout of a step holds the same images."""

import random
from itertools import chain

import numpy as np
import pytest
import torch

from soft.data.sampling import EpochSampler, EvalSampler, balanced_shares, count_repetitions, seed_generators

SIZE, GLOBAL_BATCH, SEED = 103, 24, 5


def epoch_of(world: int, accumulated: int, epoch: int = 0, seed: int = SEED) -> list[list[list[int]]]:
    """Indices as [rank][micro-batch][image]."""
    share = GLOBAL_BATCH // (world * accumulated)
    ranks = []
    for rank in range(world):
        sampler = EpochSampler(SIZE, seed, GLOBAL_BATCH, share, world, rank)
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert len(drawn) == len(sampler)
        assert {e for e, _ in drawn} == {epoch}
        indices = [index for _, index in drawn]
        ranks.append([indices[i : i + share] for i in range(0, len(indices), share)])
    return ranks


def steps_of(ranks: list[list[list[int]]], accumulated: int) -> list[list[int]]:
    """Each optimiser step's indices, micro-batch by micro-batch and rank by rank."""
    rounds = [flat(micro_batches) for micro_batches in zip(*ranks, strict=True)]
    return [flat(rounds[i : i + accumulated]) for i in range(0, len(rounds), accumulated)]


def flat(lists) -> list[int]:
    return list(chain.from_iterable(lists))


@pytest.mark.parametrize(("world", "accumulated"), [(1, 1), (1, 4), (2, 1), (3, 2), (4, 3), (8, 3)])
def test_every_layout_takes_the_same_images_in_each_step(world, accumulated):
    alone = steps_of(epoch_of(1, 1), 1)
    split = steps_of(epoch_of(world, accumulated), accumulated)

    assert split == alone
    assert len(split) == SIZE // GLOBAL_BATCH
    assert {len(step) for step in split} == {GLOBAL_BATCH}


def test_no_image_comes_twice_in_an_epoch_and_the_rest_is_dropped():
    indices = flat(steps_of(epoch_of(1, 1), 1))

    assert len(set(indices)) == len(indices) == 96
    assert set(indices) <= set(range(SIZE))


def test_order_follows_from_seed_and_epoch():
    assert epoch_of(2, 1, epoch=3) == epoch_of(2, 1, epoch=3)
    assert epoch_of(2, 1, epoch=3) != epoch_of(2, 1, epoch=4)
    assert epoch_of(2, 1, seed=6) != epoch_of(2, 1, seed=7)


def test_start_leaves_out_what_was_done_in_that_epoch_only():
    whole = EpochSampler(SIZE, SEED, GLOBAL_BATCH, per_device_batch=12, num_replicas=2)
    rest = EpochSampler(SIZE, SEED, GLOBAL_BATCH, per_device_batch=12, num_replicas=2, start=(2, 3))
    whole.set_epoch(2)

    assert list(rest) == list(whole)[3 * 12 :]
    assert len(rest) == len(whole)
    whole.set_epoch(3)
    rest.set_epoch(3)
    assert list(rest) == list(whole)


def test_a_split_that_does_not_work_out_is_refused():
    with pytest.raises(ValueError, match="do not divide 24"):
        EpochSampler(SIZE, SEED, GLOBAL_BATCH, per_device_batch=7, num_replicas=2)


# A tenth of the images are of class 0, and none of class 2.
LABELS = np.where(np.arange(SIZE) % 10 == 0, 0, np.where(np.arange(SIZE) % 2, 1, 3))


def balanced(world: int, per_device: int, rank: int = 0, epoch: int = 0, start=(0, 0)) -> list[tuple[int, ...]]:
    sampler = EpochSampler(SIZE, SEED, GLOBAL_BATCH, per_device, world, rank, start, balanced_shares(LABELS))
    sampler.set_epoch(epoch)
    return list(sampler)


def test_balanced_draws_have_every_class_equally_often():
    drawn = [LABELS[entry[1]] for epoch in range(40) for entry in balanced(1, 24, epoch=epoch)]
    shares = np.bincount(drawn) / len(drawn)
    assert shares[2] == 0
    assert shares[[0, 1, 3]] == pytest.approx(1 / 3, abs=0.03)  # four deviations


@pytest.mark.parametrize(("world", "accumulated"), [(1, 4), (2, 1), (3, 2)])
def test_balanced_draws_are_the_same_in_every_layout(world, accumulated):
    alone = balanced(1, 24, epoch=1)
    share = GLOBAL_BATCH // (world * accumulated)
    ranks = [balanced(world, share, rank, epoch=1) for rank in range(world)]
    assert flat(drawn[start : start + share] for start in range(0, len(ranks[0]), share) for drawn in ranks) == alone
    assert {entry[0] for entry in alone} == {1}


def test_balanced_draws_go_on_where_they_stopped():
    assert balanced(2, 12, rank=1, epoch=2, start=(2, 3)) == balanced(2, 12, rank=1, epoch=2)[3 * 12 :]
    assert balanced(2, 12, epoch=3, start=(2, 3)) == balanced(2, 12, epoch=3)
    assert balanced(2, 12, epoch=3) != balanced(2, 12, epoch=2)


def test_a_repeated_image_is_another_draw():
    drawn = balanced(1, 24)
    assert len(set(drawn)) == len(drawn)
    assert len({entry[1] for entry in drawn}) < len(drawn)
    assert {len(entry) for entry in drawn} == {2, 3}
    assert count_repetitions(np.array([7, 3, 7, 7, 3])).tolist() == [0, 0, 1, 2, 1]


@pytest.mark.parametrize(("size", "world"), [(10, 1), (10, 4), (7, 3), (2, 3)])
def test_evaluation_sees_each_image_once(size, world):
    shares = [EvalSampler(size, world, rank) for rank in range(world)]

    assert sorted(flat(shares)) == list(range(size))
    assert [len(list(share)) for share in shares] == [len(share) for share in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def classes_met(labels: np.ndarray, first: int, world: int) -> np.ndarray:
    """Return how many of the first examples of an evaluation of `world` ranks each class has."""
    shares = [list(EvalSampler(len(labels), world, rank, spread=True)) for rank in range(world)]
    assert sorted(flat(shares)) == list(range(len(labels)))
    return np.bincount(labels[flat(share[: first // world] for share in shares)], minlength=labels.max() + 1)


@pytest.mark.parametrize("world", [1, 2])
def test_the_beginning_of_a_spread_evaluation_has_every_class(world):
    one_after_the_other = np.repeat(np.arange(10), 100)
    in_turns = np.tile(np.arange(10), 100)
    for labels in (one_after_the_other, in_turns):
        for first in (50, 100, 256):
            assert np.abs(classes_met(labels, first, world) - first / 10).max() <= 2 + first / 100


def draws() -> tuple:
    return random.random(), float(np.random.rand()), float(torch.rand(1)), int(torch.randint(2**40, (1,)))


def draws_at(*entropy: int) -> tuple:
    seed_generators(*entropy)
    return draws()


def test_a_seed_fixes_all_three_generators():
    here = draws_at(1, 2, 3)
    draws()

    assert draws_at(1, 2, 3) == here


@pytest.mark.parametrize("other", [(1, 2, 4), (1, 3, 3), (2, 2, 3), (2, 1, 3), (1, 2), (1, 2, 3, 0)])
def test_seeds_do_not_share_randomness(other):
    assert all(a != b for a, b in zip(draws_at(1, 2, 3), draws_at(*other), strict=True))
