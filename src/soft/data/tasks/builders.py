"""The generated tasks by name: the keywords of a builder are the settings in conf/data/.

A builder makes one split of a task. What is not given to `soft.data.tasks.task_datamodule.TaskDataModule` it takes from
`soft.data.facts`.
"""

from collections.abc import Callable

from soft.data.tasks.generated import GeneratedTask
from soft.data.tasks.listops import ListOps
from soft.data.tasks.pathfinder import Pathfinder
from soft.data.tasks.recall import Recall
from soft.errors import SettingError

Grid = int | list[int] | tuple[int, int]


def recall(
    size: int, split: str, task_seed: int, img_size: Grid, pairs: int, colours: int, digits: int
) -> GeneratedTask:
    """Build cued recall, see `Recall`."""
    return Recall(size, split, task_seed, img_size, pairs, colours, digits)


def listops(
    size: int, split: str, task_seed: int, img_size: Grid, max_depth: int, max_args: int, min_length: int
) -> GeneratedTask:
    """Build ListOps, see `ListOps`; the grid is [1, max_length]."""
    if isinstance(img_size, int) or img_size[0] != 1:
        raise SettingError(f"`data.img_size`={img_size} has to be [1, N] for ListOps, a sequence of N tokens.")
    return ListOps(size, split, task_seed, max_depth, max_args, min_length, img_size[1])


def pathfinder(
    size: int,
    split: str,
    task_seed: int,
    img_size: Grid,
    dashes: int,
    dash_length: float,
    thickness: float,
    gap: float,
    continuity: float,
    seed_distance: float,
    distractors: int,
    distractor_dashes: int,
    dot_radius: float,
) -> GeneratedTask:
    """Build Pathfinder, see `Pathfinder`; the grid is square."""
    sides = {img_size} if isinstance(img_size, int) else set(img_size)
    if len(sides) > 1:
        raise SettingError(f"`data.img_size`={list(img_size)} has to be square for Pathfinder.")
    return Pathfinder(
        size,
        split,
        task_seed,
        sides.pop(),
        dashes,
        dash_length,
        thickness,
        gap,
        continuity,
        seed_distance,
        distractors,
        distractor_dashes,
        dot_radius,
    )


TASKS: dict[str, Callable[..., GeneratedTask]] = {
    "recall": recall,
    "listops": listops,
    "listops_short": listops,
    "pathfinder": pathfinder,
}
