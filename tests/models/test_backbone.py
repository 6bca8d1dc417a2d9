"""timm's model contract. Shapes are checked for every name without weights; numbers for the small models below."""

import copy

import pytest
import timm
import torch
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules, group_parameters
from timm.optim import param_groups_layer_decay
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from soft.attention import ATTENTIONS
from soft.errors import SettingError
from soft.models import SoftTransformer
from tests.marks import slow
from tests.models.shells import NAMES, SHALLOW, shell

ALL = pytest.mark.parametrize("name", NAMES)
# Each as it is cheap: 64 pixels leave grids of 16, 8, 4 and 2 tokens, and blocks of a stage are alike.
SMALL = {
    "soft_pico": {},
    "soft_tiny": {"img_size": 64, "num_landmarks": 4, "depths": (1, 1, 2, 1)},
    "soft_norm_tiny": {"img_size": 64, "num_landmarks": 4, "depths": (1, 1, 2, 1)},
}
# One block of each stage. SOFT's stages differ in how landmark windows lie on the grid; those of others are alike.
SHORT = {"depths": (1, 1, 1, 1)}
SHORTEST = {"depths": (1, 1), "embed_dims": (32, 64), "num_heads": (1, 2), "conv_sizes": (5,)}
SMALL_ONES = pytest.mark.parametrize("name", list(SMALL))
EVERY_ATTENTION = pytest.mark.parametrize("attention", list(ATTENTIONS))


def small(name: str = "soft_pico", **options: object) -> SoftTransformer:
    torch.manual_seed(0)
    return timm.create_model(name, **{**SMALL[name], **options}).eval()


def images(name: str = "soft_pico", batch: int = 2, channels: int = 3) -> torch.Tensor:
    size = 32 if name == "soft_pico" else 64
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


@ALL
def test_shapes_and_widths(name):
    model = copy.deepcopy(shell(name, **SHALLOW))
    cfg = model.default_cfg
    tokens = cfg["pool_size"][0] * cfg["pool_size"][1]
    features = model.forward_features(torch.randn(2, *cfg["input_size"], device="meta"))
    assert features.shape == (2, 1 + tokens, model.num_features)
    assert model.forward_head(features).shape == (2, 1000)
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
    assert model.in_chans == cfg["input_size"][0]
    model.reset_classifier(0)
    assert model.forward_head(features).shape == (2, model.num_features)
    model.reset_classifier(0, "")
    assert model.forward_head(features).shape == features.shape
    model.reset_classifier(7, "avg")
    assert (model.forward_head(features).shape, model.num_classes) == ((2, 7), 7)


@ALL
def test_default_cfg_names_its_layers(name):
    model = shell(name)
    cfg = model.default_cfg
    assert (cfg["mean"], cfg["std"]) == (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
    assert cfg["interpolation"] == "bicubic"
    assert model.get_submodule(cfg["first_conv"]).in_channels == 3
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    assert cfg["crop_pct"] == (1.0 if name == "soft_pico" else 0.9)


@ALL
def test_feature_pyramid(name):
    size = 64 if name == "soft_pico" else 224
    pyramid = shell(name, features_only=True, **SHALLOW)
    maps = pyramid(torch.randn(1, 3, size, size, device="meta"))
    assert [feature.shape[1] for feature in maps] == pyramid.feature_info.channels()
    assert [size // feature.shape[-1] for feature in maps] == pyramid.feature_info.reduction()
    assert pyramid.feature_info.reduction() == ([2, 4, 8, 16] if name == "soft_pico" else [4, 8, 16, 32])
    assert not any("head" in key for key in pyramid.state_dict())

    chosen = shell(name, features_only=True, out_indices=(0, 2), **SHALLOW)
    assert [f.shape for f in chosen(torch.randn(1, 3, size, size, device="meta"))] == [maps[0].shape, maps[2].shape]
    assert "stages.3" not in " ".join(chosen.state_dict())


@ALL
@pytest.mark.parametrize("coarse", [False, True])
def test_layer_groups_rise_from_stem_to_head(name, coarse):
    model = shell(name)
    group = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    assert set(group) == {key for key, _ in model.named_parameters()}
    order = [{group[key] for key in group if key.startswith("stem.")}]
    for i, stage in enumerate(model.stages):
        # What brings tokens into a stage belongs together, above all of the stage before.
        entrance = (f"downsamples.{i}.", f"stages.{i}.pos_embed", f"stages.{i}.cls_token")
        parts = [entrance, *((f"stages.{i}.blocks.{j}.",) for j in range(len(stage.blocks)))]
        groups = [{group[key] for key in group if key.startswith(part)} for part in parts]
        order += [set.union(*groups)] if coarse else groups
    assert all(len(groups) == 1 for groups in order)
    numbers = [groups.pop() for groups in order] + [group["norm.weight"], group["head.weight"]]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(order) + 1  # the final norm goes with the last block or with the head


def test_layer_decay_gives_learning_rates_that_rise_from_stem_to_head():
    model = small()
    groups = param_groups_layer_decay(
        model, weight_decay=0.05, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5
    )
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    scale = {name_of[id(parameter)]: group["lr_scale"] for group in groups for parameter in group["params"]}
    decay = {name_of[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    path = ["stem.0.conv.weight", "stages.0.pos_embed", "stages.0.blocks.0.attn.q.weight", "downsamples.1.conv.weight"]
    path += ["stages.2.blocks.0.mlp.fc1.weight", "stages.2.blocks.1.mlp.fc1.weight", "downsamples.3.conv.weight"]
    path += ["stages.3.blocks.0.attn.qkv.weight", "head.weight"]
    scales = [scale[key] for key in path]
    assert scales == sorted(set(scales))
    assert scale["head.weight"] == 1
    # SPEC 4: no decay on biases, 1-D parameters and the class token; position embeddings do decay.
    assert [decay[key] for key in ("stages.3.cls_token", "head.bias", "norm.weight")] == [0, 0, 0]
    assert [decay[key] for key in ("stages.3.pos_embed", "head.weight")] == [0.05, 0.05]


@SMALL_ONES
@pytest.mark.parametrize("global_pool", ["token", "avg"])
def test_every_parameter_gets_a_gradient(name, global_pool):
    model = small(name, num_classes=42, global_pool=global_pool).train()
    out = model(images(name))
    assert out.shape == (2, 42)
    out.square().mean().backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("size", [(28, 28), (33, 47), (64, 40), (64, 64)], ids=str)
def test_pico_takes_other_sizes(size):
    assert torch.isfinite(small()(torch.randn(1, 3, *size))).all()


@pytest.mark.parametrize("size", [28, 48, 64, (64, 32), (33, 64)], ids=str)
def test_pico_is_built_for_other_sizes(size):
    height, width = size if isinstance(size, tuple) else (size, size)
    model = small(img_size=size)
    assert model(torch.randn(1, 3, height, width)).shape == (1, 1000)
    for stage, landmarks in zip(model.stages[:3], (9, 9, 9), strict=True):
        assert stage.blocks[0].attn.landmarks(
            torch.randn(1, 1, stage.grid[0] * stage.grid[1], 32), stage.grid
        ).shape == ((1, 1, landmarks, 32))


def test_tiny_built_for_224_takes_other_sizes():
    assert torch.isfinite(timm.create_model("soft_tiny").eval()(torch.randn(1, 3, 225, 170))).all()


@pytest.mark.parametrize("size", [256, (192, 256), 320], ids=str)
def test_building_for_a_size_keeps_the_number_of_landmarks(size):
    model = shell("soft_tiny", img_size=size)
    for stage in model.stages[:3]:
        q = torch.randn(1, 1, stage.grid[0] * stage.grid[1], 32, device="meta")
        assert stage.blocks[0].attn.landmarks(q, stage.grid).shape[2] == 49


def test_in_chans_and_no_classifier():
    model = small(in_chans=1, num_classes=0)
    assert isinstance(model.get_classifier(), torch.nn.Identity)
    assert model(images(channels=1)).shape == (2, model.num_features)


def test_pooling():
    model, x = small(), images()
    tokens = model.forward_features(x)
    torch.testing.assert_close(model.forward_head(tokens, pre_logits=True), tokens[:, 0])
    model.reset_classifier(1000, "avg")
    torch.testing.assert_close(model.forward_head(tokens, pre_logits=True), tokens[:, 1:].mean(1))
    model.reset_classifier(10)
    assert model.global_pool == "avg"
    with pytest.raises(SettingError, match="global_pool='max' is not known"):
        model.reset_classifier(10, "max")


def test_reset_classifier_follows_the_models_type_device_and_mode():
    model = small().double().to("meta")
    model.reset_classifier(3)
    assert (model.head.weight.dtype, model.head.weight.device.type) == (torch.float64, "meta")
    assert not model.head.training


@SMALL_ONES
def test_intermediates(name):
    model, x = small(name), images(name)
    tokens, maps = model.forward_intermediates(x)
    info = FeatureInfo(model.feature_info, (0, 1, 2, 3))
    assert [feature.shape[1] for feature in maps] == info.channels()
    torch.testing.assert_close(tokens, model.forward_features(x))
    normed = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
    assert len(normed) == 1
    torch.testing.assert_close(normed[0].flatten(2).transpose(1, 2), tokens[:, 1:])
    with pytest.raises(SettingError, match="output_fmt='NLC'"):
        model.forward_intermediates(x, output_fmt="NLC")


def test_stop_early_runs_no_further():
    model, x = small(), images()
    _, maps = model.forward_intermediates(x)
    model.stages[3] = None
    last, early = model.forward_intermediates(x, indices=[0, 2], stop_early=True)
    torch.testing.assert_close(early, [maps[0], maps[2]])
    torch.testing.assert_close(last, maps[2])


@SMALL_ONES
@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_pruned_models_keep_their_maps_and_train(name, last):
    model, x = small(name, drop_rate=0.5), images(name)
    maps = model.forward_intermediates(x, intermediates_only=True)
    pruned = copy.deepcopy(model)
    assert pruned.prune_intermediate_layers([last], prune_norm=True) == [last]
    torch.testing.assert_close(pruned.forward_intermediates(x, indices=[last], intermediates_only=True)[0], maps[last])
    pruned.reset_classifier(5, "avg")
    assert pruned.forward_head(pruned.forward_features(x), pre_logits=True).shape == (2, pruned.head_hidden_size)
    assert pruned.head_hidden_size == pruned.num_features == model.feature_info[last]["num_chs"]
    pruned.train()(x).sum().backward()
    assert not [key for key, parameter in pruned.named_parameters() if parameter.grad is None]
    patterns = pruned.no_weight_decay()
    assert patterns <= {key for key, _ in pruned.named_parameters()}


def test_pruning_without_the_head_keeps_the_logits():
    model, x = small(), images()
    expected = model(x)
    model.prune_intermediate_layers([3], prune_head=False)
    torch.testing.assert_close(model(x), expected)


def test_a_pruned_class_token_cannot_be_pooled():
    model = small()
    model.prune_intermediate_layers([1])
    with pytest.raises(SettingError, match="global_pool='token' needs the last stage's class token"):
        model.reset_classifier(10, "token")


@SMALL_ONES
def test_gradient_checkpointing_runs_every_block_twice_and_changes_no_gradient(name):
    model, x = small(name), images(name)
    blocks = [block for stage in model.stages for block in stage.blocks]
    runs = []
    for block in blocks:
        block.norm1.register_forward_pre_hook(lambda module, args: runs.append(module))
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        runs.clear()
        model(x.requires_grad_()).square().sum().backward()
        assert [runs.count(block.norm1) for block in blocks] == [1 + enable] * len(blocks)
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_drop_rates_are_where_they_belong():
    model = small(drop_rate=0.3, drop_path_rate=0.1)
    assert model.head_drop.p == 0.3
    rates = [block.drop.p for stage in model.stages[:3] for block in stage.blocks]
    rates += [block.drop_path1.drop_prob for block in model.stages[3].blocks]
    assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    x = images()
    torch.testing.assert_close(model(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_frozen_parameters_stay_frozen():
    model = small().requires_grad_(False)
    model.reset_classifier(0, "")
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["soft_pico", "soft_norm_tiny"])
@pytest.mark.parametrize("sampling", ["conv", "random"])
def test_torchscript(name, sampling):
    model, x = small(name, sampling=sampling), images(name)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


@EVERY_ATTENTION
def test_torchscript_of_every_attention_on_an_input_of_another_size(attention):
    short = SHORT if attention in ("soft", "soft_norm") else SHORTEST
    model, x = small(attention=attention, **short), torch.randn(2, 3, 48, 40)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


def test_torchscript_of_a_feature_pyramid():
    pyramid, x = small(features_only=True, out_indices=(1, 3)), images()
    torch.testing.assert_close(torch.jit.script(pyramid)(x), pyramid(x))


@EVERY_ATTENTION
def test_fx(attention):
    model, x = small(attention=attention), images()
    options = {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}
    _, nodes = get_graph_node_names(model, tracer_kwargs=options)
    traced = create_feature_extractor(model, return_nodes=[nodes[-1]], tracer_kwargs=options)
    torch.testing.assert_close(traced(x)[nodes[-1]], model(x))


@pytest.mark.parametrize("attention", [name if name in ("soft", "softmax") else slow(name) for name in ATTENTIONS])
def test_export_with_a_free_batch_size(attention):
    short = {**SHORT, "newton_iters": 3} if attention in ("soft", "soft_norm") else SHORTEST
    model = small(attention=attention, **short)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images(),), dynamic_shapes=({0: batch},))
    x = images(batch=3)
    torch.testing.assert_close(program.module()(x), model(x))


def test_channels_last():
    model, x = small(), images()
    expected = model(x)
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_device_and_dtype(device):
    model = small(device=device, dtype=torch.bfloat16)
    tensors = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    assert {(value.device.type, value.dtype) for value in tensors.values()} == {(device, torch.bfloat16)}
    x = images().to(device, torch.bfloat16)
    assert model(x).dtype == torch.bfloat16


@SMALL_ONES
def test_an_image_does_not_depend_on_its_neighbours(name):
    """To float64 rounding: alone, or beside an image of constant colour and one a hundred times as bright."""
    model, x = small(name).double(), images(name, batch=3).double()
    x[1] = 0.5
    x[2] *= 100
    alone, together = model(x[:1]), model(x)[:1]
    assert (together - alone).norm() / alone.norm() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["soft_pico", "soft_norm_tiny"])
def test_autocast_gives_finite_logits_and_gradients(name, dtype):
    """Also where queries reach ±100."""
    model, x = small(name).train(), images(name)
    with torch.no_grad():
        for stage in model.stages[:3]:
            for block in stage.blocks:
                block.attn.q.weight.mul_(100 / (0.02 * 4 * block.attn.q.in_features**0.5))
    reached = []
    for module in model.modules():
        if hasattr(module, "newton_iters"):
            module.q.register_forward_hook(lambda module, args, out: reached.append(out.abs().max().item()))
    with torch.autocast("cpu", dtype=dtype):
        logits = model(x)
    logits.float().square().mean().backward()
    assert max(reached) > 90
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_init():
    """SPEC 3: linear weights and embeddings truncated normal with std 0.02, biases 0, LayerNorm 1 and 0."""
    model = timm.create_model("soft_pico", landmark_gain=1.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not module.bias.any()
        elif isinstance(module, torch.nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    for stage in model.stages:
        assert stage.pos_embed.std().item() == pytest.approx(0.02, rel=0.15)
    assert model.stages[3].cls_token.any()
