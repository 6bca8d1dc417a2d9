"""The generated tasks as data sets by name: a builder's keywords are the settings in conf/data/."""

from torch.utils.data import Dataset

from soft.data.image_sets import ImageSets
from soft.data.tasks.generated import GeneratedTask
from soft.data.tasks.listops import ListOps
from soft.data.tasks.pathfinder import Pathfinder
from soft.data.tasks.pixels import Pixels
from soft.data.tasks.recall import Recall
from soft.errors import SettingError
from soft.settings import check_choice

Grid = int | list[int] | tuple[int, int]


def recall(
    grid: Grid,
    vocabulary: int,
    fields: int,
    train_examples: int,
    val_examples: int,
    task_seed: int,
    pairs: int,
    colours: int,
    digits: int,
) -> ImageSets:
    """Build cued recall, see `Recall`."""
    settings = {"grid": grid, "pairs": pairs, "colours": colours, "digits": digits}
    return _sets(Recall, vocabulary, fields, train_examples, val_examples, task_seed, settings)


def listops(
    grid: Grid,
    vocabulary: int,
    fields: int,
    train_examples: int,
    val_examples: int,
    task_seed: int,
    max_depth: int,
    max_args: int,
    min_length: int,
) -> ImageSets:
    """Build ListOps, see `ListOps`; the grid is [1, max_length]."""
    if isinstance(grid, int) or grid[0] != 1:
        raise SettingError(f"data.img_size={grid} has to be [1, N] for ListOps: a sequence of N tokens.")
    settings = {"max_depth": max_depth, "max_args": max_args, "min_length": min_length, "max_length": grid[1]}
    return _sets(ListOps, vocabulary, fields, train_examples, val_examples, task_seed, settings)


def pathfinder(
    grid: Grid,
    vocabulary: int,
    fields: int,
    train_examples: int,
    val_examples: int,
    task_seed: int,
    dashes: int,
    dash_length: float,
    thickness: float,
    gap: float,
    continuity: float,
    seed_distance: float,
    distractors: int,
    distractor_dashes: int,
    dot_radius: float,
) -> ImageSets:
    """Build Pathfinder, see `Pathfinder`; the grid is square."""
    sides = {grid} if isinstance(grid, int) else set(grid)
    if len(sides) > 1:
        raise SettingError(f"data.img_size={list(grid)} has to be square for Pathfinder.")
    settings = {
        "img_size": sides.pop(),
        "dashes": dashes,
        "dash_length": dash_length,
        "thickness": thickness,
        "gap": gap,
        "continuity": continuity,
        "seed_distance": seed_distance,
        "distractors": distractors,
        "distractor_dashes": distractor_dashes,
        "dot_radius": dot_radius,
    }
    return _sets(Pathfinder, vocabulary, fields, train_examples, val_examples, task_seed, settings)


def pixels(grid: Grid, vocabulary: int, fields: int, source: str, **options: object) -> ImageSets:
    """Build the grey pixels of another data set's images, see `Pixels`.

    Args:
        source: the name of that data set.
        options: its own settings, such as `root`; None is left out.
    """
    from soft.data.datasets import BUILDERS  # which holds this builder too

    check_choice("data.source", source, BUILDERS.keys() - {"recall", "listops", "pathfinder", "pixels"})
    given = {name: value for name, value in options.items() if value is not None}
    try:
        sets = BUILDERS[source](**given)
    except TypeError as error:
        raise SettingError(f"data.source={source} and the other data settings do not fit: {error}.") from None
    train, val = (Pixels(part, grid) for part in (sets.train, sets.val))
    _check_tokens(train, vocabulary, fields)
    return ImageSets(train, val, sets.class_names, sets.notes)


def _sets(
    task: type[GeneratedTask],
    vocabulary: int,
    fields: int,
    train_examples: int,
    val_examples: int,
    task_seed: int,
    settings: dict[str, object],
) -> ImageSets:
    train = task(train_examples, "train", task_seed, **settings)
    val = task(val_examples, "val", task_seed, **settings)
    _check_tokens(train, vocabulary, fields)
    return ImageSets(train, val, train.class_names)


def _check_tokens(task: Dataset, vocabulary: int, fields: int) -> None:
    if vocabulary < task.vocabulary:
        raise SettingError(
            f"data.vocabulary={vocabulary} is less than the {task.vocabulary} token ids of these settings; set it to "
            f"at least {task.vocabulary}."
        )
    if fields != task.fields:
        raise SettingError(f"data.fields={fields}, but this data has {task.fields} per position.")
