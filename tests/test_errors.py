"""A message names the argument for who calls the library, and the setting for who types a command."""

import pickle

import pytest

from soft.errors import RunError, SettingError, first_few
from soft.settings import check_whole

MESSAGE = "`data.img_size`=0 and `attention.num_landmarks`=5 do not fit; see the file `notes` in a.b/data.tar."


@pytest.mark.parametrize("kind", [SettingError, RunError])
def test_two_readers_of_one_message(kind):
    error = pickle.loads(pickle.dumps(kind(MESSAGE)))

    assert str(error) == "img_size=0 and num_landmarks=5 do not fit; see the file `notes` in a.b/data.tar."
    assert error.as_settings({"attention": "model.attention"}) == (
        "data.img_size=0 and model.attention.num_landmarks=5 do not fit; see the file `notes` in a.b/data.tar."
    )
    assert str(kind(f"{error.message} Again.")).startswith("img_size=0")


def test_a_check_takes_either_name():
    for name, argument, setting in (("seed", "seed", "seed"), ("`data.batch_size`", "batch_size", "data.batch_size")):
        with pytest.raises(SettingError, match=f"^{argument}=0 has to be") as caught:
            check_whole(name, 0, low=1)
        assert caught.value.as_settings().startswith(f"{setting}=0 has to be")


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), (range(5), "0, 1, 2 and 2 more")],
)
def test_long_lists_are_cut(items, text):
    assert first_few(items) == text


def test_how_many_are_shown():
    assert first_few("abcdefgh", shown=6) == "a, b, c, d, e, f and 2 more"
    assert first_few(["a, b", "c", "d"], shown=2, separator="; ") == "a, b; c and 1 more"
