import pytest

from soft.errors import SettingError
from soft.hardware.layout import lay_out_batch


@pytest.mark.parametrize(
    ("batch", "devices", "limit", "layout"),
    [
        (1024, 32, 128, (32, 1)),
        (1024, 8, 128, (128, 1)),
        (1024, 1, 128, (128, 8)),
        (1024, 8, 100, (64, 2)),
        (64, 1, 128, (64, 1)),
        (7, 1, 3, (1, 7)),
    ],
)
def test_fewest_passes_within_the_limit(batch, devices, limit, layout):
    found = lay_out_batch(batch, devices, limit)
    assert (found.per_device, found.accumulate) == layout
    assert found.global_batch == batch


def test_error_lists_what_would_divide():
    with pytest.raises(SettingError) as error:
        lay_out_batch(100, 8, 128)
    for text in ("data.batch_size=100", "96, 104", "1, 2, 4, 5 devices"):
        assert text in str(error.value)


@pytest.mark.parametrize("batch", [0, -4, 2.5, "many", True])
def test_batch_out_of_range(batch):
    with pytest.raises(SettingError, match=r"data\.batch_size"):
        lay_out_batch(batch, 1, 128)
