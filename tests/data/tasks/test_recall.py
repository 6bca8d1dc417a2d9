"""Cued recall: what a grid holds, found without the generator's own order of steps."""

import pytest
import torch
from torch.utils.data import DataLoader

from soft.data.tasks.recall import ASK, EMPTY, Recall
from soft.errors import SettingError


def answer(tokens: torch.Tensor) -> int:
    """The digit beside the colour that is asked for, by a search over all cells."""
    cells = [tuple(cell) for cell in tokens.flatten(1).T.tolist()]
    (asked,) = [colour for colour, content in cells if content == ASK]
    (digit,) = [content - 2 for colour, content in cells if colour == asked and content != ASK]
    return digit


@pytest.mark.parametrize(
    ("grid", "pairs", "colours", "digits"), [(8, 12, 16, 10), (8, 32, 40, 10), ((1, 20), 5, 5, 2), (2, 3, 60, 7)]
)
def test_the_label_is_the_digit_of_the_colour_asked_for(grid, pairs, colours, digits):
    task = Recall(200, grid=grid, pairs=pairs, colours=colours, digits=digits)
    for tokens, label in (task[i] for i in range(200)):
        assert tokens.shape == (2, *task.grid)
        assert tokens.dtype == torch.int64
        assert answer(tokens) == label
        colour, content = tokens.flatten(1)
        assert ((colour == EMPTY) == (content == EMPTY)).all()
        holds = content >= 2
        assert holds.sum() == pairs
        assert len(colour[holds].unique()) == pairs
        assert colour.max() <= colours
        assert content.max() <= 1 + digits
        assert tokens.max() < task.vocabulary
    assert task.class_names == [str(i) for i in range(digits)]
    assert task.num_classes == digits


def test_cells_and_labels_are_spread_evenly():
    """So that neither the place that asks nor the digits give the answer away."""
    task = Recall(4000)
    asks, labels = torch.zeros(64), torch.zeros(10)
    for tokens, label in (task[i] for i in range(4000)):
        asks[tokens[1].flatten().eq(ASK).int().argmax()] += 1
        labels[label] += 1
    # Six standard deviations of a count.
    assert (asks - 4000 / 64).abs().max() < 6 * (4000 / 64) ** 0.5
    assert (labels - 400).abs().max() < 6 * 400**0.5


def test_examples_depend_on_seed_split_and_index_alone():
    task = Recall(50)
    alone = [task[i] for i in range(50)]
    backwards = [Recall(50)[i] for i in reversed(range(50))][::-1]
    longer = Recall(1000)
    assert all(torch.equal(a, b) and s == t for (a, s), (b, t) in zip(alone, backwards, strict=True))
    assert torch.equal(longer[49][0], alone[49][0])
    for workers in (0, 2):
        loaded = torch.cat([x for x, _ in DataLoader(task, batch_size=10, num_workers=workers)])
        assert torch.equal(loaded, torch.stack([x for x, _ in alone]))
    for other in (Recall(50, split="val"), Recall(50, split="test"), Recall(50, seed=1)):
        assert not any(torch.equal(other[i][0], alone[i][0]) for i in range(50))
    assert not torch.equal(alone[0][0], alone[1][0])


def test_the_end_of_the_data_set_ends_a_loop():
    assert len(list(Recall(3))) == len(Recall(3)) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(size=0), "train_examples=0"),
        (dict(split="training"), "train, val, test"),
        (dict(pairs=64, colours=64), "at most 63 pairs"),
        (dict(pairs=12, colours=11), "colours=11"),
        (dict(digits=1), "digits=1"),
        (dict(seed=-1), "task_seed=-1"),
        (dict(grid=[8]), "img_size"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(arguments, words):
    with pytest.raises(SettingError, match=words):
        Recall(**{"size": 4, **arguments})
