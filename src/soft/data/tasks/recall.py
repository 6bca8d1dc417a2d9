"""Cued recall on a grid: a cell asks for a colour, and another cell, anywhere, holds the answer.

A convolution cannot carry the answer from one cell to the other; attention can. The task is the grid's form of the
associative recall by which Arora et al., "Zoology" (arXiv 2312.04927), tell language models apart.
"""

import numpy as np

from soft.data.tasks.generated import GeneratedTask
from soft.errors import SettingError
from soft.settings import check_pixels, check_whole

EMPTY = 0  # in both fields
ASK = 1  # second field of the cell that asks


class Recall(GeneratedTask):
    """Grids in which `pairs` cells hold a colour and a digit, and one more cell holds a colour and asks for its digit.

    The colours of the pairs differ from each other, their digits are drawn independently; cells, colours and the pair
    that is asked for are drawn uniformly. Guessing has an accuracy of 1 / `digits`.

    The input, int64 (2, H, W), has two fields: the colour (0: empty cell, else 1 + colour) and the content (0: empty
    cell, 1: this cell asks, else 2 + digit).

    Args:
        size, split, seed: see `GeneratedTask`.
        grid: height and width in cells, or one number for both.
        pairs: K, number of cells that hold a colour and a digit.
        colours: number of colours, at least K.
        digits: number of digits, and of classes.
    """

    fields = 2

    def __init__(
        self,
        size: int,
        split: str = "train",
        seed: int = 0,
        grid: int | tuple[int, int] = 8,
        pairs: int = 12,
        colours: int = 16,
        digits: int = 10,
    ):
        super().__init__(size, split, seed)
        check_pixels("`data.img_size`", grid)
        check_whole("`data.pairs`", pairs, low=1)
        check_whole("`data.colours`", colours, low=1)
        check_whole("`data.digits`", digits, low=2)
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        cells = self.grid[0] * self.grid[1]
        if pairs >= cells:
            raise SettingError(
                f"`data.pairs`={pairs} and the cell that asks do not fit the {cells} cells of `data.img_size`="
                f"{list(self.grid)}; use at most {cells - 1} pairs."
            )
        if pairs > colours:
            raise SettingError(
                f"`data.pairs`={pairs} need as many different colours, and `data.colours`={colours} are fewer; use at "
                f"least {pairs} colours."
            )
        self.pairs = pairs
        self.colours = colours
        self.digits = digits
        self.class_names = [str(digit) for digit in range(digits)]
        self.vocabulary = max(1 + colours, 2 + digits)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        cells = rng.permutation(self.grid[0] * self.grid[1])[: self.pairs + 1]
        colours = rng.permutation(self.colours)[: self.pairs]
        digits = rng.integers(self.digits, size=self.pairs)
        tokens = np.zeros((2, self.grid[0] * self.grid[1]), np.int64)
        tokens[0, cells[1:]] = 1 + colours
        tokens[1, cells[1:]] = 2 + digits
        # Cells, colours and digits are in random order already, so the first pair is a random one.
        tokens[:, cells[0]] = 1 + colours[0], ASK
        return tokens.reshape(2, *self.grid), int(digits[0])
