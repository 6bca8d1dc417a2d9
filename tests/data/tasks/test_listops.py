"""ListOps: expressions are read back as text and evaluated by rewriting, which the generator does not do."""

import re
import statistics
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from soft.data.tasks.listops import NAMES, OPERATORS, ListOps, apply
from soft.errors import SettingError

SHORT = dict(min_length=5, max_length=60)


def text(tokens: torch.Tensor) -> str:
    """The expression; padding has to stand at its end and nowhere else."""
    ids = tokens.flatten().tolist()
    end = len(ids) - ids[::-1].index(next(i for i in reversed(ids) if i))
    assert 0 not in ids[:end]
    return " ".join(NAMES[i] for i in ids[:end])


def value(expression: str) -> int:
    """Replace innermost lists by their values until one digit is left."""
    functions = {
        "MIN": min,
        "MAX": max,
        "MED": lambda digits: int(statistics.median(digits)),
        "SM": lambda digits: int(str(sum(digits))[-1]),
    }

    def reduce(match: re.Match) -> str:
        return str(functions[match[1]]([int(digit) for digit in match[2].split()]))

    while not expression.isdigit():
        shorter = re.sub(r"\[(MIN|MAX|MED|SM)((?: \d)+) \]", reduce, expression)
        assert shorter != expression, "brackets do not match"
        expression = shorter
    return int(expression)


def depth_and_arguments(expression: str) -> tuple[int, list[int]]:
    """Greatest depth of a node, the root's being 1, and the number of arguments of each operator."""
    depth, deepest, open_lists, arguments = 1, 1, [], []
    for token in expression.split():
        if token == "]":
            arguments.append(open_lists.pop())
            depth -= 1
            continue
        deepest = max(deepest, depth)
        if open_lists:
            open_lists[-1] += 1
        if token.startswith("["):
            open_lists.append(0)
            depth += 1
    return deepest, arguments


def test_the_evaluator_itself():
    assert value("[MAX 4 3 [MIN 2 3 ] 1 0 ]") == 4
    assert value("[SM 9 8 [MED 1 4 ] ]") == 9
    assert value("[MED 3 9 1 ]") == 3
    assert value("[MED 8 9 ]") == 8


@pytest.mark.parametrize(("settings", "count"), [(SHORT, 2000), ({}, 40)])
def test_labels_are_the_values_of_the_expressions(settings, count):
    task = ListOps(count, **settings)
    for tokens, label in (task[i] for i in range(count)):
        expression = text(tokens)
        assert value(expression) == label
        assert task.min_length < len(expression.split()) < task.max_length
        assert tokens.shape == (1, 1, task.max_length)
        assert tokens.max() < task.vocabulary
    assert task.num_classes == 10


def test_expressions_have_the_published_shape():
    """Depth up to 10, 2 to 10 arguments, all alike, and operators one node in four above the greatest depth."""
    task = ListOps(60)
    depths, arguments, operators = [], [], []
    for i in range(60):
        expression = text(task[i][0])
        depth, counts = depth_and_arguments(expression)
        depths.append(depth)
        arguments += counts
        operators += [token[1:] for token in expression.split() if token.startswith("[")]
    assert max(depths) == 10
    assert set(arguments) == set(range(2, 11))
    assert set(operators) == set(OPERATORS)
    shares = np.bincount([OPERATORS.index(operator) for operator in operators]) / len(operators)
    assert np.abs(shares - 0.25).max() < 0.03


def test_the_share_of_operators_without_a_choice_of_lengths():
    """Among all expressions of depth 2, an argument's value is a digit; of depth 3, an operator in one case of four."""
    task = ListOps(3000, max_depth=3, min_length=1, max_length=200)
    # The children of the root are at depth 2, where both kinds may stand.
    operators = children = 0
    for i in range(3000):
        expression, level = text(task[i][0]).split(), 0
        for token in expression:
            if token != "]" and level == 1:
                children += 1
                operators += token.startswith("[")
            level += token.startswith("[") - (token == "]")
    assert abs(operators / children - 0.25) < 6 * (0.25 * 0.75 / children) ** 0.5


@pytest.mark.parametrize("count", range(1, 8))
def test_operators_agree_with_numpy(count):
    for digits in np.random.default_rng(count).integers(10, size=(50, count)).tolist():
        assert [apply(i, digits) for i in range(4)] == [
            np.min(digits),
            np.max(digits),
            int(np.median(digits)),
            np.sum(digits) % 10,
        ]


def test_examples_depend_on_seed_split_and_index_alone():
    task = ListOps(30, **SHORT)
    alone = torch.stack([task[i][0] for i in range(30)])
    for workers in (0, 2):
        assert torch.equal(torch.cat([x for x, _ in DataLoader(task, batch_size=7, num_workers=workers)]), alone)
    assert not torch.equal(ListOps(30, split="val", **SHORT)[0][0], alone[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(min_length=500, max_length=501), "leaves no length below the 501 tokens"),
        (dict(max_depth=2, min_length=500), "max_depth=2"),
        (dict(max_args=1), "max_args=1"),
        (dict(max_depth=1), "max_depth=1"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(arguments, words):
    start = time.monotonic()
    with pytest.raises(SettingError, match=words):
        ListOps(**{"size": 4, **arguments})
    assert time.monotonic() - start < 60
