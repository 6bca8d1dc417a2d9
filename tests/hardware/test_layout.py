import pytest

from soft.data.sampling import EpochSampler
from soft.errors import SettingError
from soft.hardware.layout import BatchLayout, check_validation_share, lay_out_batch, plan_ranks


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


@pytest.mark.parametrize("layout", [BatchLayout(32, 32, 1), BatchLayout(4, 8, 3)])
def test_ranks_take_what_the_sampler_gives_them(layout):
    ranks = plan_ranks(layout, per_node=4, accelerator="cuda")
    order = [index for _, index in EpochSampler(5000, 0, layout.global_batch, layout.per_device)]
    for plan in ranks:
        sampler = EpochSampler(5000, 0, layout.global_batch, layout.per_device, layout.devices, plan.rank)
        share = [index for _, index in sampler][: layout.per_device * layout.accumulate]
        assert share == [order[position] for images in plan.images for position in images]
    assert [(plan.rank, plan.node, plan.local_rank, plan.device) for plan in ranks[:2]] == [
        (0, 0, 0, "cuda:0"),
        (1, 0, 1, "cuda:1"),
    ]
    assert (ranks[-1].node, ranks[-1].local_rank) == (layout.devices // 4 - 1, 3)


def test_chosen_devices_keep_their_indices():
    ranks = plan_ranks(BatchLayout(2, 8, 1), per_node=2, accelerator="cuda", indices=[5, 7])
    assert [plan.device for plan in ranks] == ["cuda:5", "cuda:7"]


def test_every_device_needs_a_validation_image():
    check_validation_share(4, 4)
    with pytest.raises(SettingError, match=r"3 validation images .* Take 3 devices"):
        check_validation_share(3, 4)
