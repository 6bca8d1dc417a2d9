"""Pathfinder: labels are checked by a search along what was drawn, in numbers and in pixels."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from torch.utils.data import DataLoader

from soft.data.tasks.dashes import squared_distances
from soft.data.tasks.pathfinder import Pathfinder
from soft.errors import SettingError
from tests.marks import slow

EASY = dict(dashes=6, distractors=10, distractor_dashes=2)
# Large and thick, so that gaps and what lies between paths differ by pixels.
LARGE = dict(
    img_size=160,
    dashes=7,
    dash_length=8,
    thickness=4,
    gap=8,
    continuity=1.2,
    seed_distance=28,
    distractors=6,
    distractor_dashes=3,
    dot_radius=2,
)


def scenes(task: Pathfinder, count: int) -> list:
    return [task.scene(np.random.default_rng(i)) for i in range(count)]


def separations(dashes: np.ndarray) -> np.ndarray:
    """Distances (n, n) between dashes (n, 2, 2) that do not cross: from an end of one to the other."""
    one_way = np.sqrt(squared_distances(dashes[:, None], dashes[None, :, None]).min(2))
    return np.minimum(one_way, one_way.T)


@pytest.mark.parametrize(("settings", "count"), [(EASY, 25), ({}, 12), (LARGE, 5)])
def test_labels_follow_from_a_search_from_dash_to_dash(settings, count):
    """A step of the search leads to any dash that is no farther than a gap, whichever path it was drawn for."""
    task = Pathfinder(count, **settings)
    labels = []
    for scene in scenes(task, count):
        dashes = np.concatenate(scene.paths)
        _, group = connected_components(separations(dashes) <= task.gap * (1 + 1e-9))
        assert group.max() + 1 == len(scene.paths)
        start, end = (np.sqrt(squared_distances(dot, dashes)).argmin() for dot in scene.dots)
        assert (group[start] == group[end]) == bool(scene.label)
        labels.append(scene.label)
    assert set(labels) == {0, 1}


def test_labels_follow_from_a_search_in_the_pixels():
    """Gaps are 4 pixels wide, and at least 6 lie between paths: all that is drawn, grown by 2.5, joins gaps alone."""
    task = Pathfinder(12, **LARGE)
    labels = []
    for seed in range(12):
        scene = task.scene(np.random.default_rng(seed))
        image, label = task.draw(np.random.default_rng(seed))
        grown = ndimage.distance_transform_edt(image[0] < 128) <= 2.5
        parts, number = ndimage.label(grown, structure=np.ones((3, 3)))
        assert number == len(scene.paths)
        first, second = (parts[tuple(dot.astype(int))] for dot in scene.dots)
        assert 0 not in (first, second)
        assert (first == second) == bool(label)
        labels.append(label)
    assert set(labels) == {0, 1}


def test_paths_have_the_lengths_and_angles_asked_for():
    task = Pathfinder(6, **EASY, continuity=1.5)
    for scene in scenes(task, 6):
        long, short = scene.paths[:2], scene.paths[2:]
        assert [len(path) for path in long] == [6, 6]
        assert all(len(path) == 2 for path in short)
        assert 0 < len(short) <= 10
        for path in scene.paths:
            assert (path >= 1).all()
            assert (path <= task.grid[0] - 1).all()
            along = path[:, 1] - path[:, 0]
            np.testing.assert_allclose(np.linalg.norm(along, axis=1), task.dash_length)
            for (_, head), (tail, _) in pairwise(path):
                assert np.linalg.norm(tail - head) <= task.gap + 1e-9
            cosines = (along[1:] * along[:-1]).sum(-1) / task.dash_length**2
            # cos²(min(1.5·Δ, 90°)) is 0 from 60° on.
            assert (cosines > np.cos(np.pi / 3)).all()
        start = long[0][0, 0] - long[1][0, 0]
        np.testing.assert_allclose(np.linalg.norm(start), task.seed_distance)


def test_dots_stand_at_ends_and_tell_nothing_by_their_number():
    counts = {(label, same): 0 for label in (0, 1) for same in (0, 1)}
    for scene in scenes(Pathfinder(60, **EASY), 60):
        starts = [path[0, 0] for path in scene.paths[:2]]
        ends = [path[-1, 1] for path in scene.paths[:2]]
        (start,) = [i for i in (0, 1) if np.array_equal(starts[i], scene.dots[0])]
        (end,) = [i for i in (0, 1) if np.array_equal(ends[i], scene.dots[1])]
        assert (start == end) == bool(scene.label)
        counts[scene.label, start] += 1
    assert min(counts.values()) > 3  # of 15 each


def test_grey_values():
    task = Pathfinder(2)
    image, label = task[0]
    assert image.shape == (1, 32, 32)
    assert image.dtype == torch.int64
    assert label in (0, 1)
    assert image.min() == 0
    assert image.max() == 255  # the dots' middles
    assert 0.05 < (image > 60).float().mean() < 0.5
    assert task.class_names == ["apart", "joined"]


def test_examples_depend_on_seed_split_and_index_alone():
    task = Pathfinder(8, **EASY)
    alone = torch.stack([task[i][0] for i in range(8)])
    for workers in (0, 2):
        assert torch.equal(torch.cat([x for x, _ in DataLoader(task, batch_size=3, num_workers=workers)]), alone)
    assert not torch.equal(Pathfinder(8, split="val", **EASY)[0][0], alone[0])
    assert not torch.equal(Pathfinder(8, seed=1, **EASY)[0][0], alone[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        slow(dict(dashes=200), "dashes=200"),
        (dict(dashes=1), "dashes=1"),
        (dict(seed_distance=8), "less than 8"),
        (dict(gap=0), "gap=0"),
        (dict(continuity=0), "continuity=0"),
        (dict(img_size=[32, 32]), "img_size"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(arguments, words):
    with pytest.raises(SettingError, match=words):
        Pathfinder(**{"size": 4, **arguments})
