"""The tables of paired comparisons, and the sentences that say what follows from them."""

from collections.abc import Sequence

from soft.errors import first_few
from soft.studies.comparison import Comparison
from soft.studies.paired import Estimate
from soft.studies.rows import name_settings
from soft.studies.study import Study
from soft.studies.tables import Column, Table, setting_columns, top1_column

NAMED = 12  # rows in a sentence
ONE_SEED = "One seed shows no noise: run more seeds to see which differences are real."


def differences_table(comparisons: Sequence[Comparison], study: Study, complete: bool = True) -> Table:
    """Tabulate the comparisons with the study's reference, and each row's share of its gap.

    Args:
        complete: all runs of the study are finished, so that no row will be compared with another one later.
    """
    rows = [comparison.row for comparison in comparisons]
    columns = [
        *setting_columns(rows),
        top1_column(rows),
        *_difference_columns(comparisons),
        Column("share of the gap (%)", [_share(comparison.share) for comparison in comparisons]),
    ]
    records = [{**c.row.settings, **_difference_record(c), **_record("share", c.share)} for c in comparisons]
    title, notes = "Shares of the gap", []
    if study.reference:
        name = name_settings(study.reference)
        title = f"Differences to {name}"
        compared = any(comparison.other for comparison in comparisons)
        notes = _summarise(comparisons) if compared else [f"The reference ({name}) has no finished run."]
    if not complete and any(c.other is None or c.share is None for c in comparisons):
        notes.append("Runs are missing: a row without a difference or share may get one when they are finished.")
    if any(comparison.share for comparison in comparisons):
        ends = name_settings(study.floor), name_settings(study.ceiling)
        notes.append(f"In the share of the gap, {ends[0]} is 0 % and {ends[1]} is 100 %.")
    return Table("differences", f"{title}, paired by seed", columns, records, notes)


def pairs_table(comparisons: Sequence[Comparison]) -> Table:
    """Tabulate comparisons of two rows each."""
    names = [(comparison.row.name, comparison.other.name) for comparison in comparisons]
    columns = [
        Column("first", [first for first, _ in names]),
        Column("second", [second for _, second in names]),
        *_difference_columns(comparisons),
    ]
    records = [
        {"first": first, "second": second, **_difference_record(comparison)}
        for (first, second), comparison in zip(names, comparisons, strict=True)
    ]
    notes = _summarise_pairs(comparisons)
    return Table("pairs", "Pairs, first − second, paired by seed", columns, records, notes)


def _difference_columns(comparisons: Sequence[Comparison]) -> list[Column]:
    return [
        Column("difference (points)", [_difference(comparison) for comparison in comparisons]),
        Column("95 % interval", [_interval(comparison.difference, "+.2f") for comparison in comparisons]),
        Column("real", [_real(comparison) for comparison in comparisons]),
        Column("detectable (points)", ["" if c.detectable is None else f"{c.detectable:.2f}" for c in comparisons]),
        Column("pairs of seeds", [str(c.difference.pairs) if c.difference else "" for c in comparisons]),
    ]


def _difference(comparison: Comparison) -> str:
    if comparison.other is comparison.row:
        return "reference"
    return f"{comparison.difference.mean:+.2f}" if comparison.difference else ""


def _real(comparison: Comparison) -> str:
    real = comparison.difference.excludes(0) if comparison.difference else None
    return {None: "", True: "yes", False: "no"}[real]


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    interval = _interval(estimate, ".0f")
    return f"{estimate.mean:.0f}" + (f" ({interval})" if interval else "")


def _interval(estimate: Estimate | None, form: str) -> str:
    if estimate is None or estimate.low is None:
        return ""
    return f"{estimate.low:{form}} to {estimate.high:{form}}"


def _difference_record(comparison: Comparison) -> dict[str, object]:
    difference = comparison.difference
    return {
        **_record("difference", difference),
        "real": difference and difference.excludes(0),
        "detectable": comparison.detectable,
        "pairs_of_seeds": difference and difference.pairs,
    }


def _record(name: str, estimate: Estimate | None) -> dict[str, object]:
    return {
        name: estimate and estimate.mean,
        f"{name}_low": estimate and estimate.low,
        f"{name}_high": estimate and estimate.high,
    }


def _summarise(comparisons: Sequence[Comparison]) -> list[str]:
    """Return sentences on which differences are real, and on how small a difference would have been seen."""
    judged = _judged(comparisons)
    if not judged:
        return [_without_noise(comparisons)]
    real = [f"{c.row.name} ({c.difference.mean:+.1f})" for c in judged if c.difference.excludes(0)]
    same = [c.row.name for c in judged if not c.difference.excludes(0)]
    texts = [f"Real differences, whose 95 % interval excludes 0: {first_few(real, NAMED, '; ') or 'none'}."]
    if same:
        texts.append(f"Not told apart from the reference: {first_few(same, NAMED, '; ')}.")
    if detectable := [comparison.detectable for comparison in judged if comparison.detectable is not None]:
        span = " to ".join(dict.fromkeys(f"{value:.1f}" for value in (min(detectable), max(detectable))))
        texts.append(
            "The smallest difference that the study would have shown with 80 % probability, for its seeds and their "
            f"spread, is {span} points, depending on the row (column detectable)."
        )
    return [*texts, *_equal_pairs(comparisons), *_multiplicity(judged)]


def _summarise_pairs(comparisons: Sequence[Comparison]) -> list[str]:
    judged = _judged(comparisons)
    if not judged:
        return [_without_noise(comparisons)]
    same = [f"{c.row.name} and {c.other.name}" for c in judged if not c.difference.excludes(0)]
    return [
        f"Not told apart: {first_few(same, NAMED, '; ') or 'none, all pairs differ'}.",
        *_equal_pairs(comparisons),
        *_multiplicity(judged),
    ]


def _without_noise(comparisons: Sequence[Comparison]) -> str:
    """Return why no difference is judged."""
    return " ".join(_equal_pairs(comparisons)) or ONE_SEED


def _equal_pairs(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a sentence on the rows whose pairs of seeds all differ by the same amount."""
    equal = [c.row.name for c in comparisons if c.difference and c.difference.pairs > 1 and c.difference.low is None]
    if not equal:
        return []
    return [
        f"All pairs of seeds differ by the same amount, which shows no noise and is not judged: "
        f"{first_few(equal, NAMED, '; ')}. Run more seeds."
    ]


def _judged(comparisons: Sequence[Comparison]) -> list[Comparison]:
    return [c for c in comparisons if c.difference and c.difference.low is not None]


def _multiplicity(judged: Sequence[Comparison]) -> list[str]:
    if len(judged) < 2:
        return []
    return [
        f"Each interval holds with 95 % by itself: among {len(judged)} comparisons without any difference, "
        f"{len(judged) / 20:.2g} would look real on average."
    ]
