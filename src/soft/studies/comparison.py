"""What a study's rows say beside each other: differences to its reference, shares of its gap, and what spoils it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from soft.errors import first_few
from soft.runs.idle_attention import MIN_SHARE, READ_ON
from soft.studies.paired import Estimate, detectable_difference, mean_difference, share_of_gap
from soft.studies.rows import Row, name_settings
from soft.studies.study import ALL, Point, Study


@dataclass(frozen=True)
class Comparison:
    """A row against another one, by the top-1 of the seeds that both have.

    Attributes:
        other: the row that it is compared with; None if the sweep has no such row.
        difference: row − other, in points of top-1.
        detectable: smallest difference that the study would have shown, see `soft.studies.paired`.
        share: the row's place between the study's floor and ceiling in percent, where both are there.
    """

    row: Row
    other: Row | None
    difference: Estimate | None = None
    detectable: float | None = None
    share: Estimate | None = None


def compare_with_reference(rows: Sequence[Row], study: Study, complete: bool = True) -> list[Comparison]:
    """Compare every row with the study's reference, and place it between floor and ceiling.

    Args:
        complete: see `partner`.

    Returns:
        a comparison for each row; empty if the study names neither a reference nor a gap.
    """
    if not study.reference and not (study.floor and study.ceiling):
        return []
    found = []
    for row in rows:
        floor, ceiling = (partner(row, rows, point, complete) for point in (study.floor, study.ceiling))
        share = share_of_gap(row.top1, floor.top1, ceiling.top1) if floor and ceiling else None
        found.append(_compare(row, partner(row, rows, study.reference, complete), share))
    return found


def compare_pairs(rows: Sequence[Row], study: Study, complete: bool = True) -> list[Comparison]:
    """Compare the pairs of points that the study names; all pairs of rows if it says so."""
    if study.pairs == ALL:
        return [_compare(first, second) for first, second in combinations(rows, 2)]
    found = []
    for first, second in study.pairs:
        for row in rows:
            if row.is_at(first) and (other := partner(row, rows, second, complete)):
                found.append(_compare(row, other))
    return found


def _compare(row: Row, other: Row | None, share: Estimate | None = None) -> Comparison:
    if other is None or other is row:
        return Comparison(row, other, share=share)
    difference, detectable = (of(row.top1, other.top1) for of in (mean_difference, detectable_difference))
    return Comparison(row, other, difference, detectable, share)


def partner(row: Row, rows: Sequence[Row], point: Point | None, complete: bool = True) -> Row | None:
    """Return the row at `point` that `row` is to be compared with; None if there is none, or more than one.

    Of the rows at `point`, the first choice is the one that agrees with `row` in all other settings, the second is the
    one that agrees in all settings that both have. Once `complete`, a single row at `point` is taken in any case.

    Args:
        complete: whether all runs of the sweep are finished. Until they are, a row with other settings is not taken,
            because the right one may still come.
    """
    there = [other for other in rows if point and other.is_at(point)]
    for agree in (_equal, _agree):
        if found := [other for other in there if agree(row.settings, other.settings, point)]:
            return found[0] if len(found) == 1 else None
    return there[0] if len(there) == 1 and complete else None


def _equal(ours: Mapping[str, object], theirs: Mapping[str, object], point: Point) -> bool:
    return all(value == ours.get(key) for key, value in theirs.items() if key not in point)


def _agree(ours: Mapping[str, object], theirs: Mapping[str, object], point: Point) -> bool:
    return all(value in (None, ours.get(key)) for key, value in theirs.items() if key not in point)


def find_faults(rows: Sequence[Row], study: Study) -> list[str]:
    """Return sentences on why the study's table cannot answer its question; none if nothing is known against it."""
    return [*_check_gate(rows, study), *_check_attention(rows, study)]


def _check_gate(rows: Sequence[Row], study: Study) -> Iterator[str]:
    for what, point, limit, bound, sign in (
        ("ceiling", study.ceiling, study.gate.ceiling_min, "at least", 1),
        ("floor", study.floor, study.gate.floor_max, "at most", -1),
    ):
        if limit is None or point is None:
            continue
        there = [row for row in rows if row.is_at(point) and row.top1]
        if not there:
            yield (
                f"Whether this study can answer its question is not known yet: its {what} "
                f"({name_settings(point)}), which should have {bound} {limit:g} %, has no finished run."
            )
        for row in there:
            top1 = row.measured["top1"].mean
            if sign * top1 < sign * limit:
                yield (
                    f"This study answers nothing: its {what} ({row.name}) has {top1:.1f} %, and should have "
                    f"{bound} {limit:g} % for the other rows to mean something."
                )


def _check_attention(rows: Sequence[Row], study: Study) -> Iterator[str]:
    if not any(key.startswith("model.attention.") for row in rows for key in row.settings):
        return
    ends = [point for point in (study.floor, study.ceiling) if point]
    asked = [row for row in rows if shares(row) and not any(row.is_at(point) for point in ends)]
    idle = [row for row in asked if all(share < MIN_SHARE for share in shares(row).values())]  # one may be NaN
    if idle and len(idle) == len(asked):
        yield (
            "This table cannot answer a question about attention: in every row of it what the attention adds differs "
            f"between tokens by less than {100 * MIN_SHARE:g} % of a block's attention output (column attention "
            f"share), so its settings can hardly matter; read {READ_ON}."
        )
    elif idle:
        yield (
            f"In these rows what the attention adds differs between tokens by less than {100 * MIN_SHARE:g} % of a "
            f"block's attention output, so its settings can hardly matter there (read {READ_ON}): "
            f"{first_few((row.name for row in idle), 6, '; ')}."
        )


def shares(row: Row) -> dict[str, float]:
    """Return the mean share of the attention, from 0 to 1, by stage; see `soft.attention.share`."""
    prefix = "attention_share"
    names = sorted(name for name in row.measured if name.startswith(prefix))
    return {name.removeprefix(prefix).lstrip("_"): row.measured[name].mean for name in names}


def solved_seeds(row: Row, study: Study) -> int | None:
    """Return how many runs of the row solved the task; None where the study does not say what that is."""
    if study.solved is None or "top1" not in row.measured:
        return None
    return sum(value >= study.solved for value in row.measured["top1"].values)
