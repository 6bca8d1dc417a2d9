"""Parts of a model that are not trained stay as they are."""

import pytest
import timm
import torch

import soft  # noqa: F401 - registers the models
from soft.errors import SettingError
from soft.models.freezing import freeze, list_parts


def pico():
    torch.manual_seed(0)
    return timm.create_model("soft_pico", num_classes=3, num_landmarks=4, newton_iters=3, drop_path_rate=0.2)


def encoder():
    torch.manual_seed(0)
    return timm.create_model("soft_encoder", num_classes=3, in_chans=1, vocabulary=16)


def frozen(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def test_parts_of_the_pyramid_are_its_stem_and_stages():
    model = pico()
    parts = list_parts(model)
    assert list(parts) == ["stem", "stage1", "stage2", "stage3", "stage4", "backbone"]
    assert all(name.startswith("stem.") for name in parts["stem"])
    starts = {name.split(".")[0] + name.split(".")[1] for name in parts["stage2"]}
    assert starts == {"downsamples1", "stages1"}
    assert "stages.3.cls_token" in parts["stage4"]
    every = {name for name, _ in model.named_parameters()}
    assert every - set(parts["backbone"]) == {"head.weight", "head.bias"}
    named = [name for part in parts if part != "backbone" for name in parts[part]]
    assert every - set(named) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}


def test_parts_of_the_encoder():
    parts = list_parts(encoder())
    assert list(parts) == ["stem", "stage1", "backbone"]
    assert {"pos_embed", "norm.weight"} <= set(parts["stem"])


@pytest.mark.parametrize("chosen", [["stem"], ["stem", "stage1", "stage3"], ["backbone"], "stage2"])
def test_what_is_frozen_is_at_rest_and_the_others_have_the_same_gradients(chosen):
    """Attention, MLP and residuals have backward passes of their own."""
    x = torch.randn(4, 3, 32, 32)
    gradients = []
    for parts in ([], chosen):
        model = (
            pico().eval()
        )  # without dropout and BatchNorm's statistics, which are other ones where nothing is frozen
        freeze(model, parts)
        model(x).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    expected = {name for part in ([chosen] if isinstance(chosen, str) else chosen) for name in list_parts(model)[part]}
    assert frozen(model) == expected
    for name, gradient in gradients[1].items():
        if name in expected:
            assert gradient is None
        else:
            torch.testing.assert_close(gradient, gradients[0][name])


def test_frozen_modules_are_in_evaluation_mode():
    model = pico().train()
    freeze(model, ["stem", "stage1"])
    modes = {name: module.training for name, module in model.named_modules()}
    assert not modes["stem.0.bn"]
    assert not modes["stages.0.blocks.0.drop"]  # dropout
    assert all(modes[name] for name in ("", "stages.1.blocks.0.drop", "downsamples.1.bn", "head"))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(4, 3, 32, 32) + 1)
    changed = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed
    assert not any(name.startswith("stem") for name in changed)


def test_batchnorm_alone():
    model = pico().train()
    keys = list(model.state_dict())
    note = freeze(model, batchnorm=True)
    assert frozen(model) == {name for name, _ in model.named_parameters() if ".bn." in name}
    assert not any(module.training for name, module in model.named_modules() if name.endswith(".bn"))
    assert list(model.state_dict()) == keys
    assert note.startswith("Frozen: all BatchNorm layers; ")


def test_what_is_said():
    model = pico()
    assert freeze(model) == ""
    total = sum(parameter.numel() for parameter in model.parameters())
    assert freeze(model, ["backbone"]) == f"Frozen: backbone; 579 of {total:,} parameters are trained."


@pytest.mark.parametrize("part", ["stage5", "head", 3, ["stem"]])
def test_a_part_that_the_model_does_not_have(part):
    with pytest.raises(SettingError, match=r"finetune.freeze=.* is not a part .* stem, stage1, .*, backbone\.$"):
        freeze(pico(), [part])
