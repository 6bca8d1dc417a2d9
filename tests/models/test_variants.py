import pytest
import timm
import torch

import soft
from soft.attention import ATTENTIONS
from soft.errors import SettingError
from soft.models import SoftTransformer
from soft.models.factory import create_from_config, describe_model
from tests.models.shells import NAMES as ALL_NAMES
from tests.models.shells import SHALLOW, shell

# SPEC: the released code's own counts; small is the paper's 24M model, small_39m the released file's layout.
PARAMETERS = {
    "tiny": 13_069_056,
    "small": 24_110_092,
    "small_39m": 38_858_462,
    "medium": 45_812_707,
    "large": 64_700_646,
    "huge": 87_108_273,
}
NAMES = {f"soft_{size}" for size in PARAMETERS} | {f"soft_norm_{size}" for size in PARAMETERS if size != "small_39m"}


def test_names():
    assert set(ALL_NAMES) == NAMES | {"soft_pico"}
    assert soft.models.SoftTransformer is SoftTransformer


@pytest.mark.parametrize("name", sorted(NAMES))
def test_parameter_counts(name):
    count = sum(parameter.numel() for parameter in shell(name).parameters())
    assert count == PARAMETERS[name.removeprefix("soft_").removeprefix("norm_")]


def test_pico_is_small():
    assert sum(parameter.numel() for parameter in shell("soft_pico").parameters()) < 1_500_000


@pytest.mark.parametrize("name", sorted(NAMES))
def test_heads_are_32_wide_and_the_name_gives_the_attention(name):
    for stage in shell(name).stages[:3]:
        for block in stage.blocks:
            assert block.attn.q.in_features == 32 * block.attn.num_heads
            assert block.attn.normalised == name.startswith("soft_norm_")
            assert block.attn.newton_iters == 20
            assert block.attn.inverse == "newton"


def test_arguments_reach_the_attention():
    options = {"num_landmarks": 25, "newton_iters": 10, "sampling": "avgpool", "inverse": "svd", "landmark_gain": 0.3}
    options["kernels"] = "torch"
    model = shell("soft_tiny", attention="soft_norm", **options)
    for stage in model.stages[:3]:
        attention = stage.blocks[0].attn
        assert attention.normalised
        assert (attention.newton_iters, attention.inverse, attention.kernels) == (10, "svd", "torch")
        assert (attention.landmarks.num_landmarks, attention.landmarks.sampling) == (25, "avgpool")


def test_a_landmark_gain_is_the_weight_that_training_starts_from():
    model = timm.create_model("soft_pico", landmark_gain=0.3)
    norms = [block.attn.landmarks.norm.weight for stage in model.stages[:3] for block in stage.blocks]
    torch.testing.assert_close(torch.cat(norms), torch.full((128,), 0.3))


def test_soft_pico_starts_with_its_attention_at_work():
    def start(model):
        attention = model.stages[1].blocks[0].attn
        return attention.landmarks.norm.weight[0].item(), attention.global_scale

    assert start(timm.create_model("soft_pico")) == pytest.approx((2 / 32**0.5, 16))
    assert start(timm.create_model("soft_pico", attention="soft_norm", landmark_gain=0.5)) == (0.5, 16)
    assert start(timm.create_model("soft_pico", landmark_gain=1)) == (1, None)
    assert start(timm.create_model("soft_pico", landmark_gain=0.5, global_scale="sum")) == (0.5, None)
    assert start(timm.create_model("soft_tiny")) == (1, None)
    of_config = {"name": "soft_pico", "attention": {"landmark_gain": 1.0, "global_scale": None}}
    assert start(create_from_config(of_config, num_classes=3)) == (1, None)


@pytest.mark.parametrize("options", [{}, {"global_scale": "sum"}, {"global_scale": 4.0, "attention": "soft_norm"}])
def test_a_model_describes_its_global_scale(options):
    model = timm.create_model("soft_pico", num_classes=3, **options)
    again = create_from_config(describe_model(model), num_classes=3)
    scales = [each.stages[1].blocks[0].attn.global_scale for each in (model, again)]
    assert scales[0] == scales[1] == {"sum": None}.get(options.get("global_scale"), options.get("global_scale", 16))


# Parameters of soft_tiny: keys have a map of their own, and there is no landmark sampling.
OTHERS = {"softmax": 13_302_792, "linformer": 13_562_100, "performer": 13_302_792, "nystromformer": 13_304_112}
# It has SOFT's parameters without the map to queries and the landmarks.
NONE = sum(dim * dim + dim + (32 * window) ** 2 + 64 for dim, window in [(64, 8), *2 * [(128, 4)], *3 * [(320, 2)]])


@pytest.mark.parametrize("name", ["soft_pico", "soft_tiny", "soft_small_39m", "soft_huge", "soft_norm_tiny"])
@pytest.mark.parametrize("attention", [*OTHERS, "none"])
def test_every_size_takes_every_attention(name, attention):
    model = shell(name, attention=attention)
    assert {type(block.attn) for stage in model.stages[:3] for block in stage.blocks} == {ATTENTIONS[attention]}
    if name in ("soft_pico", "soft_tiny", "soft_huge"):  # the others have soft_tiny's widths
        shallow = shell(name, attention=attention, depths=SHALLOW["depths"])
        assert shallow(torch.zeros(1, *model.default_cfg["input_size"], device="meta")).shape == (1, 1000)


@pytest.mark.parametrize("attention", OTHERS)
def test_parameter_counts_of_the_other_attentions(attention):
    model = shell("soft_tiny", attention=attention)
    assert sum(parameter.numel() for parameter in model.parameters()) == OTHERS[attention]
    tokens = sum(stage.grid[0] * stage.grid[1] * len(stage.blocks) for stage in model.stages[:3])
    heads = sum(block.attn.num_heads for stage in model.stages[:3] for block in stage.blocks)
    extra = {"linformer": 49 * tokens, "nystromformer": 33 * heads}
    assert OTHERS[attention] - OTHERS["softmax"] == extra.get(attention, 0)


def test_parameter_count_without_attention():
    count = sum(parameter.numel() for parameter in shell("soft_tiny", attention="none").parameters())
    assert count == PARAMETERS["tiny"] - NONE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "sotf"}, "attention='sotf' is not known; it is one of soft, soft_norm"),
        ({"num_landmarks": 50}, "num_landmarks=50 is not a square number; the nearest are 49 and 64"),
        ({"num_landmarks": 400}, r"num_landmarks=400 \(20x20\) is larger than a stage's grid of 14x14 tokens"),
        # Larger than the first stage's grid too, but the number that is named has to fit all of them.
        ({"num_landmarks": 10000}, r"num_landmarks=10000 \(100x100\) .* of 14x14 tokens; use at most 196"),
        ({"newton_iters": 0}, "newton_iters=0"),
        ({"landmark_gain": 0}, "landmark_gain=0 has to be a number above 0"),
        ({"sampling": "max"}, "sampling='max' is not known; it is one of conv, avgpool, random, first"),
        ({"inverse": "lu"}, "inverse='lu' is not known; it is one of newton, cholesky, svd"),
        ({"kernels": "cuda"}, "kernels='cuda' is not known; it is one of auto, torch, triton"),
        ({"kernels": "triton", "num_landmarks": 81}, "kernels=triton takes at most 64 landmarks, and there are 81"),
        ({"global_pool": "max"}, "global_pool='max' is not known; it is one of 'token', 'avg' or '' "),
        ({"drop_rate": 1.0}, "drop_rate=1.0 has to be a number from 0 up to, but not including, 1"),
        ({"drop_path_rate": -0.1}, "drop_path_rate=-0.1 has to be a number from 0"),
        ({"drop_path_rate": "0.1"}, "drop_path_rate='0.1' has to be a number from 0"),
        ({"landmarks": 49}, "attention='soft' has no option 'landmarks'; its options are num_landmarks, newton_iters"),
    ],
    ids=str,
)
def test_unfit_arguments_are_errors_that_name_the_fit_ones(options, message):
    with pytest.raises(SettingError, match=message):
        shell("soft_tiny", **options)


@pytest.mark.parametrize("name", ["soft_pico", "soft_encoder"])
@pytest.mark.parametrize("attention", ["soft", "soft_norm"])
def test_a_landmark_gain_of_auto_is_2_over_the_root_of_the_heads_width(name, attention):
    config = {"name": name, "attention": {"attention": attention, "landmark_gain": "auto"}}
    for model in (
        create_from_config(config, num_classes=3),
        timm.create_model(name, attention=attention, landmark_gain="auto"),
    ):
        gains = model.stages[0].blocks[0].attn.landmarks.norm.weight
        torch.testing.assert_close(gains, torch.full((32,), 2 / 32**0.5))
