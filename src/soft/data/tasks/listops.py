"""ListOps: the value of a nested expression over lists of digits.

Source: Nangia and Bowman, "ListOps: A Diagnostic Dataset for Latent Tree Learning" (2018), in the form of Tay et al.,
"Long Range Arena" (2021), whose generator fixes probabilities, lengths and rounding.
"""

from collections.abc import Sequence

import numpy as np

from soft.data.tasks.generated import GeneratedTask, succeeds_often
from soft.errors import SettingError
from soft.settings import check_whole

OPERATORS = ("MIN", "MAX", "MED", "SM")
OPERATOR_PROBABILITY = 0.25  # of a node above the greatest depth; all others are digits
ATTEMPTS = 5_000  # at an expression of the length asked for

PADDING = 0
DIGIT = 1  # id of the digit 0
OPERATOR = DIGIT + 10  # id of the first operator
CLOSE = OPERATOR + len(OPERATORS)
NAMES = ["", *map(str, range(10)), *(f"[{operator}" for operator in OPERATORS), "]"]


class ListOps(GeneratedTask):
    """Expressions such as [MAX 4 3 [MIN 2 3 ] 1 0 ], whose value, a digit, is the label.

    A node is an operator with probability 1/4, and a digit otherwise and at the greatest depth. An operator has 2 to
    `max_args` arguments. The operators are minimum, maximum, median (of an even number of arguments: the mean of the
    middle two, rounded down) and the sum modulo 10. Expressions are drawn until one has more than `min_length` and
    fewer than `max_length` tokens, where operators, digits and closing brackets count one each.

    The input, int64 (1, 1, `max_length`), is padded with 0 at the end; ids 1 to 10 are the digits, 11 to 14 the
    operators with their opening bracket, 15 is the closing bracket.

    Args:
        size, split, seed: see `GeneratedTask`. The original has 96,000 / 2,000 / 2,000 examples. It takes care that no
            expression comes twice; at its lengths that does not happen by chance either.
        max_depth: greatest depth of a node, the outermost operator being at depth 1.
        max_args: greatest number of arguments.
        min_length, max_length: limits of the length in tokens, both exclusive.
    """

    fields = 1
    vocabulary = len(NAMES)

    def __init__(
        self,
        size: int,
        split: str = "train",
        seed: int = 0,
        max_depth: int = 10,
        max_args: int = 10,
        min_length: int = 500,
        max_length: int = 2000,
    ):
        super().__init__(size, split, seed)
        check_whole("`data.max_depth`", max_depth, low=2)
        check_whole("`data.max_args`", max_args, low=2)
        check_whole("`data.min_length`", min_length, low=0)
        check_whole("max_length, the N of data.img_size=[1, N],", max_length, low=5)
        self.max_depth = max_depth
        self.max_args = max_args
        self.min_length = min_length
        self.max_length = max_length
        self.grid = (1, max_length)
        self.class_names = [str(digit) for digit in range(10)]
        if not min_length + 1 < max_length:
            raise SettingError(
                f"`data.min_length`={min_length} leaves no length below the {max_length} tokens of "
                f"data.img_size=[1, {max_length}]; use at most {max_length - 2}, or a longer sequence."
            )
        rng = np.random.default_rng(seed)
        if not succeeds_often(lambda: self._fits(self._expression(rng)[0]), ATTEMPTS):
            raise self._too_rare()

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        for _ in range(ATTEMPTS):
            tokens, value = self._expression(rng)
            if self._fits(tokens):
                padded = np.full((1, 1, self.max_length), PADDING)
                padded[..., : len(tokens)] = tokens
                return padded, value
        raise self._too_rare()

    def _fits(self, tokens: Sequence[int]) -> bool:
        return self.min_length < len(tokens) < self.max_length

    def _too_rare(self) -> SettingError:
        return SettingError(
            f"Too few expressions of `data.max_depth`={self.max_depth} and `data.max_args`={self.max_args} are longer "
            f"than `data.min_length`={self.min_length} and shorter than the {self.max_length} tokens of "
            f"data.img_size=[1, {self.max_length}]; use a smaller `data.min_length`, a larger `data.max_depth` or "
            "`data.max_args`, or a longer sequence."
        )

    def _expression(self, rng: np.random.Generator) -> tuple[list[int], int]:
        """Draw an expression and its value; one with too many nodes is broken off and made too long on purpose."""
        # One entry per node; there are no more nodes than tokens. Single draws in a loop take a hundred times as long.
        nested = (rng.random(self.max_length) <= OPERATOR_PROBABILITY).tolist()
        operators = rng.integers(len(OPERATORS), size=self.max_length).tolist()
        counts = rng.integers(2, self.max_args, size=self.max_length, endpoint=True).tolist()
        digits = rng.integers(10, size=self.max_length).tolist()
        tokens: list[int] = []
        unfinished: list[tuple[int, int, list[int]]] = []  # operator, number of arguments, values of those so far
        for node in range(self.max_length):
            if nested[node] and len(unfinished) + 1 < self.max_depth:
                tokens.append(OPERATOR + operators[node])
                unfinished.append((operators[node], counts[node], []))
                continue
            value = digits[node]
            tokens.append(DIGIT + value)
            while unfinished:
                operator, count, values = unfinished[-1]
                values.append(value)
                if len(values) < count:
                    break
                unfinished.pop()
                value = apply(operator, values)
                tokens.append(CLOSE)
            if not unfinished:
                return tokens, value
        return tokens + [CLOSE] * self.max_length, 0


def apply(operator: int, values: Sequence[int]) -> int:
    """Return the value of operator number `operator` of OPERATORS for digits `values`."""
    match OPERATORS[operator]:
        case "MIN":
            return min(values)
        case "MAX":
            return max(values)
        case "MED":
            ordered, middle = sorted(values), len(values) // 2
            return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
        case _:
            return sum(values) % 10
