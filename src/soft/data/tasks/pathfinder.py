"""Pathfinder: are two dots joined by a dashed path, among paths that lead elsewhere?

Source: Linsley et al., "Learning long-range spatial dependencies with horizontal gated recurrent units" (2018), with
the settings of Tay et al., "Long Range Arena" (2021). A path grows as theirs does, see `Pathfinder`.
"""

import math
from dataclasses import dataclass

import numpy as np

from soft.data.tasks.dashes import Canvas, draw
from soft.data.tasks.generated import GeneratedTask, succeeds_often
from soft.errors import SettingError
from soft.settings import check_number, check_whole

ATTEMPTS = 5_000  # at two paths that fit the image
DISTRACTOR_ATTEMPTS = 5  # at each further path, which is left out otherwise
ANGLES = 36  # directions that a dash may take


@dataclass(frozen=True)
class Scene:
    """What an image shows, in pixels from its upper left corner.

    Attributes:
        paths: for each path the ends of its dashes in order, (dashes, 2, 2), each end as (y, x); the first two paths
            are the long ones.
        dots: the two dots, (2, 2).
        label: whether one path joins them, 0 or 1.
    """

    paths: list[np.ndarray]
    dots: np.ndarray
    label: int


class Pathfinder(GeneratedTask):
    """Grey images of two long dashed paths, shorter ones, and two dots; label 1 where one path joins the dots.

    The first path starts near the middle, the second one `seed_distance` from it, and the two grow by turns: a dash
    leaves the last one's end at an angle Δ with a probability in proportion to cos²(min(continuity·Δ, 90°)). A dot
    stands at the start of one long path; the other dot stands at the end of the same path or, as often, of the other
    one. So neither the dots' distance nor the number of ends tells the label.

    Paths keep a distance from each other and from themselves that is larger than the gap between two dashes of a path.
    The original keeps its paths apart on a grid of pixels, blurs its dashes by resampling and draws further paths a
    third brighter; here places are real numbers and all dashes are equally bright.

    The input, int64 (1, size, size), has grey values from 0 to 255.

    Args:
        size, split, seed: see `GeneratedTask`. Long Range Arena has 160,000 / 20,000 / 20,000 images.
        img_size: height and width in pixels.
        dashes: of a long path: 6 is Long Range Arena's easy setting, 9 its intermediate and 14 its hard one.
        dash_length, thickness, gap: of a dash and between two, in pixels.
        continuity: how straight paths are, see above; at least 0.5.
        seed_distance: pixels between the starts of the long paths; the first one starts twice as far from the border.
        distractors: number of shorter paths, fewer where they do not fit.
        distractor_dashes: of a shorter path.
        dot_radius: in pixels.
    """

    fields = 1
    vocabulary = 256

    def __init__(
        self,
        size: int,
        split: str = "train",
        seed: int = 0,
        img_size: int = 32,
        dashes: int = 14,
        dash_length: float = 2.0,
        thickness: float = 0.5,
        gap: float = 2.0,
        continuity: float = 1.0,
        seed_distance: float = 7.0,
        distractors: int = 5,
        distractor_dashes: int = 4,
        dot_radius: float = 1.5,
    ):
        super().__init__(size, split, seed)
        check_whole("`data.img_size`", img_size, low=8)
        check_whole("`data.dashes`", dashes, low=2)
        check_whole("`data.distractors`", distractors, low=0)
        check_whole("`data.distractor_dashes`", distractor_dashes, low=1)
        for name, value in (("dash_length", dash_length), ("gap", gap), ("dot_radius", dot_radius)):
            check_number(f"`data.{name}`", value, low=1)
        check_number("`data.thickness`", thickness, low=0.1)
        check_number("`data.continuity`", continuity, low=0.5)
        check_number("`data.seed_distance`", seed_distance, low=1)
        if 4 * seed_distance >= img_size:
            raise SettingError(
                f"`data.seed_distance`={seed_distance} leaves no place for the first path in `data.img_size`="
                f"{img_size}; use less than {img_size / 4:g} pixels."
            )
        self.grid = (img_size, img_size)
        self.class_names = ["apart", "joined"]
        self.dashes = dashes
        self.dash_length = float(dash_length)
        self.thickness = float(thickness)
        self.gap = float(gap)
        self.continuity = float(continuity)
        self.seed_distance = float(seed_distance)
        self.distractors = distractors
        self.distractor_dashes = distractor_dashes
        self.dot_radius = float(dot_radius)
        rng = np.random.default_rng(seed)
        if not succeeds_often(lambda: self._long_paths(rng, self._canvas()) is not None, ATTEMPTS):
            raise self._too_rare()

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        scene = self.scene(rng)
        image = draw(self.grid[0], np.concatenate(scene.paths), self.thickness, scene.dots, self.dot_radius)
        return image[None], scene.label

    def scene(self, rng: np.random.Generator) -> Scene:
        """Draw what an image shows."""
        for _ in range(ATTEMPTS):
            canvas = self._canvas()
            long = self._long_paths(rng, canvas)
            if long is not None:
                break
        else:
            raise self._too_rare()
        label, start = int(rng.integers(2)), int(rng.integers(2))
        end = start if label else 1 - start
        dots = np.stack([long[start][0, 0], long[end][-1, 1]])
        shorter = (self._distractor(rng, canvas) for _ in range(self.distractors))
        return Scene([*long, *(path for path in shorter if path is not None)], dots, label)

    def _canvas(self) -> Canvas:
        return Canvas(self.grid[0], clearance=1.25 * self.gap)

    def _too_rare(self) -> SettingError:
        return SettingError(
            f"Two paths of `data.dashes`={self.dashes} do not fit `data.img_size`={self.grid[0]}, or too rarely, with "
            f"`data.dash_length`={self.dash_length:g}, `data.gap`={self.gap:g}, `data.continuity`={self.continuity:g} "
            f"and `data.seed_distance`={self.seed_distance:g}; use fewer or shorter dashes, smaller gaps, paths that "
            "are less straight, or a larger image."
        )

    def _long_paths(self, rng: np.random.Generator, canvas: Canvas) -> list[np.ndarray] | None:
        margin = 2 * self.seed_distance
        first = rng.uniform(margin, canvas.size - margin, size=2)
        second = first + self.seed_distance * _direction(rng.uniform(0, 2 * math.pi))
        paths = [self._start(rng, first), self._start(rng, second)]
        if not canvas.is_free(paths[1][0][None], paths[0])[0]:
            return None
        for _ in range(self.dashes - 1):
            for path, other in (paths, paths[::-1]):
                if not self._extend(rng, canvas, path, other[-1:]):
                    return None
        for path in paths:
            canvas.block(path[-1])
        return [np.stack(path) for path in paths]

    def _distractor(self, rng: np.random.Generator, canvas: Canvas) -> np.ndarray | None:
        for _ in range(DISTRACTOR_ATTEMPTS):
            trial = canvas.copy()
            path = [self._start(rng, rng.uniform(1, canvas.size - 1, size=2))[0]]
            if not canvas.is_free(path[0][None])[0]:
                continue
            if all(self._extend(rng, trial, path, []) for _ in range(self.distractor_dashes - 1)):
                trial.block(path[-1])
                canvas.blocked = trial.blocked
                return np.stack(path)
        return None

    def _start(self, rng: np.random.Generator, tail: np.ndarray) -> list[np.ndarray]:
        return [np.stack([tail, tail + self.dash_length * _direction(rng.uniform(0, 2 * math.pi))])]

    def _extend(
        self, rng: np.random.Generator, canvas: Canvas, path: list[np.ndarray], others: list[np.ndarray]
    ) -> bool:
        """Add a dash to `path` and block the one before it; False where none is free.

        Args:
            others: dashes that are not blocked yet, but taken.
        """
        tail, head = path[-1]
        heading = math.atan2(*(head - tail))
        # The gap is bent in its middle.
        turns = rng.uniform(0, 2 * math.pi / ANGLES) + np.arange(ANGLES) * (2 * math.pi / ANGLES) - math.pi
        pivot = head + self.gap / 2 * _direction(heading)
        directions = _direction(heading + turns)
        ends = (self.gap / 2, self.gap / 2 + self.dash_length)
        candidates = np.stack([pivot + distance * directions for distance in ends], axis=1)
        chances = np.cos(np.minimum(np.abs(turns) * self.continuity, math.pi / 2)) ** 2
        chances = chances * canvas.is_free(candidates, others)
        total = chances.sum()
        if total < 1e-9:
            return False
        canvas.block(path[-1])
        path.append(candidates[rng.choice(ANGLES, p=chances / total)])
        return True


def _direction(angle: float | np.ndarray) -> np.ndarray:
    """Return unit vectors (..., 2) as (y, x); an angle of 0 points along x."""
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)
