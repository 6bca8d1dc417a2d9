import pytest

from soft.errors import first_few


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), (range(5), "0, 1, 2 and 2 more")],
)
def test_long_lists_are_cut(items, text):
    assert first_few(items) == text


def test_how_many_are_shown():
    assert first_few("abcdefgh", shown=6) == "a, b, c, d, e, f and 2 more"
    assert first_few(["a, b", "c", "d"], shown=2, separator="; ") == "a, b; c and 1 more"
