import copy
import pickle
from argparse import Namespace

import pytest
import timm
import torch
from safetensors.torch import save_file

from soft.errors import SettingError
from soft.models.checkpoints import load_weights, read_weights
from soft.models.key_names import to_official_keys
from tests.golden import golden, image, official_weights, relative_error
from tests.models.shells import shell


def pico(**options: object) -> torch.nn.Module:
    return timm.create_model("soft_pico", **options)


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# Files

# From the weights that should be read, and others.
WRAPPINGS = {
    "bare": lambda w, other: w,
    "state_dict": lambda w, other: {"state_dict": w, "epoch": 3},
    "model": lambda w, other: {"model": w, "args": Namespace(lr=1e-3)},
    "state_dict_ema": lambda w, other: {"state_dict": other, "state_dict_ema": w, "args": Namespace(lr=1e-3)},
    "module": lambda w, other: {"state_dict": {f"module.{key}": value for key, value in w.items()}},
    "compiled": lambda w, other: {f"_orig_mod.{key}": value for key, value in w.items()},
    "compiled_module": lambda w, other: {f"_orig_mod.module.{key}": value for key, value in w.items()},
    "lightning": lambda w, other: {
        "state_dict": {f"model.{key}": value for key, value in other.items()}
        | {f"ema.module.{key}": value for key, value in w.items()},
        "epoch": 3,
        "loops": {},
    },
    "lightning_without_ema": lambda w, other: {"state_dict": {f"model.{key}": value for key, value in w.items()}},
    "lightning_compiled": lambda w, other: {"state_dict": {f"model._orig_mod.{key}": v for key, v in w.items()}},
}
WRAPPED = pytest.mark.parametrize("wrapping", list(WRAPPINGS))


def write(path, wrapping, weights):
    zeros = {key: torch.zeros_like(value) for key, value in weights.items()}
    torch.save(WRAPPINGS[wrapping](weights, zeros), path)
    return path


@WRAPPED
@pytest.mark.parametrize("names", ["ours", "official"])
def test_every_wrapping_is_read(wrapping, names, weights, tmp_path):
    inner = weights if names == "ours" else to_official_keys(weights)
    assert equal(read_weights(write(tmp_path / "w.pth", wrapping, inner)), weights)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".ckpt", ""])
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files_of_any_age_and_name_are_read(suffix, zipped, weights, tmp_path):
    torch.save(to_official_keys(weights), tmp_path / f"w{suffix}", _use_new_zipfile_serialization=zipped)
    assert equal(read_weights(tmp_path / f"w{suffix}"), weights)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_are_read(prefix, weights, tmp_path):
    save_file({prefix + key: value for key, value in to_official_keys(weights).items()}, tmp_path / "w.safetensors")
    assert equal(read_weights(tmp_path / "w.safetensors"), weights)


@pytest.mark.parametrize("wrapping", ["state_dict_ema", "lightning"])
def test_raw_weights_on_request(wrapping, weights, tmp_path):
    path = write(tmp_path / "w.ckpt", wrapping, weights)
    assert not any(value.any() for value in read_weights(path, "raw").values())
    model = pico()
    load_weights(model, path, "raw")
    assert not model.head.weight.any()
    load_weights(model, path)
    assert torch.equal(model.head.weight, weights["head.weight"])


class Hostile:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_code_in_a_file_is_refused_in_one_sentence_and_not_run(save, weights, tmp_path):
    save({"state_dict": weights, "args": Hostile(tmp_path / "ran")}, tmp_path / "hostile.pth")
    with pytest.raises(SettingError, match="holds objects other than weights") as error:
        read_weights(tmp_path / "hostile.pth")
    assert str(error.value).count("\n") == 0
    assert not (tmp_path / "ran").exists()
    # timm's own way into the model refuses it as well.
    with pytest.raises(RuntimeError, match="weights_only"):
        timm.create_model("soft_pico", checkpoint_path=str(tmp_path / "hostile.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused_in_one_sentence(kept, suffix, weights, tmp_path):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(SettingError, match=r"cut\.\w+ was not loaded: it is damaged, cut short") as error:
        read_weights(path)
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_refused(suffix, tmp_path):
    path = tmp_path / f"notes{suffix}"
    path.write_text("accuracy was 79.3 %\n" * 100)
    with pytest.raises(SettingError, match="no checkpoint"):
        read_weights(path)


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 3}, {"state_dict": {}}, {"state_dict": {"a": 1}}, {"state_dict": None, "model": None}],
    ids=str,
)
def test_files_without_weights_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(SettingError, match=r"holds no ema weights|was not loaded"):
        read_weights(tmp_path / "w.pth")


def test_a_lone_tensor_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "w.pth")
    with pytest.raises(SettingError, match="was not loaded"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "files", [["best.ckpt", "a.ckpt"], ["checkpoints/last.ckpt", "checkpoints/epoch=3.ckpt"], ["b.pth"]]
)
def test_a_folder_is_answered_with_the_file_in_it(files, tmp_path):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(SettingError) as error:
        read_weights(tmp_path)
    assert str(error.value) == (
        f"There is no checkpoint file {tmp_path}; it is a folder. Did you mean {tmp_path / files[0]}?"
    )


def test_a_path_may_begin_at_home(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(weights, tmp_path / "w.pth")
    assert equal(read_weights("~/w.pth"), weights)


def test_an_empty_path_is_an_error():
    with pytest.raises(SettingError, match="The path of the checkpoint is empty"):
        read_weights("")


@pytest.mark.parametrize("what", ["missing.pth", "."])
def test_no_file_is_an_error_that_names_it(what, tmp_path):
    with pytest.raises(SettingError, match="There is no checkpoint file"):
        read_weights(tmp_path / what)


def test_an_unknown_kind_of_weights_lists_the_known_ones(weights):
    with pytest.raises(SettingError, match=r"weights='best' is not known; it is one of ema, raw\."):
        load_weights(pico(), weights, weights="best")


# Into a model


def test_loading_names_what_does_not_fit_and_loads_nothing(weights):
    model = pico()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for key in ("norm.weight", "norm.bias", "stem.0.bn.weight", "stem.1.bn.weight", "stem.2.bn.weight"):
        del weights[key]
    weights |= {"fc.weight": torch.zeros(1), "stem.0.conv.bias": torch.zeros(3)}
    with pytest.raises(SettingError) as error:
        load_weights(model, weights)
    assert str(error.value) == (
        "The weights do not fit the model; keys: 5 missing (stem.0.bn.weight, stem.1.bn.weight, stem.2.bn.weight and 2 "
        "more); 1 unknown (fc.weight); 1 of another shape (stem.0.conv.bias (3,) instead of (16,))."
    )
    assert equal(model.state_dict(), before)


def test_another_size_of_model_is_an_error():
    with pytest.raises(SettingError, match=r"keys: 48 unknown \(.* and 45 more\); 117 of another shape \("):
        load_weights(pico(), official_weights("soft_tiny"))


def test_what_is_missing_from_the_last_stage_is_named(weights):
    official = to_official_keys(weights)
    del official["block4.0.attn.q.weight"]
    with pytest.raises(SettingError, match=r"1 missing \(stages\.3\.blocks\.0\.attn\.qkv\.weight\); 1 unknown \("):
        load_weights(pico(), official)


@pytest.mark.parametrize("shape", [(), (3,), (1, 0, 192), (1, 1, 192), (1, 7, 192), (1, 10, 5)], ids=str)
def test_position_embeddings_that_cannot_be_resized_are_named(shape, weights):
    weights["stages.3.pos_embed"] = torch.zeros(shape)
    with pytest.raises(SettingError, match=r"1 of another shape \(stages\.3\.pos_embed "):
        load_weights(pico(), weights)


def test_another_number_of_classes_is_an_error_that_names_reset_head(weights):
    for num_classes in (10, 0):
        with pytest.raises(
            SettingError, match=rf"into 1000 classes and the model into {num_classes}: .*reset_head=True"
        ):
            load_weights(pico(num_classes=num_classes), weights)


@pytest.mark.parametrize("num_classes", [10, 0, 1000])
@pytest.mark.parametrize("names", ["ours", "official"])
def test_reset_head_keeps_the_models_own_classifier(num_classes, names, weights):
    model = pico(num_classes=num_classes)
    own = {key: value.clone() for key, value in model.state_dict().items() if key.startswith("head.")}
    load_weights(model, weights if names == "ours" else to_official_keys(weights), reset_head=True)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], own[key]) for key in own)
    assert all(torch.equal(loaded[key], weights[key]) for key in loaded if not key.startswith("head."))


def test_weights_without_a_classifier_need_reset_head(weights):
    del weights["head.weight"], weights["head.bias"]
    with pytest.raises(SettingError, match="into 0 classes and the model into 1000"):
        load_weights(pico(), weights)
    load_weights(pico(), weights, reset_head=True)


def test_position_embeddings_are_resized_as_for_another_input_size(weights):
    """The sampler of 16 landmarks at 64 pixels has the windows of 4 at 32 pixels, so that the weights fit both."""
    small, large = pico(num_landmarks=4).eval(), pico(img_size=64, num_landmarks=16).eval()
    weights = {**small.state_dict()}
    load_weights(large, weights)
    assert large.stages[0].pos_embed.shape == (1, 32 * 32, 32)
    assert large.stages[3].pos_embed.shape == (1, 1 + 4 * 4, 192)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(large(x), small(x))


def test_a_model_on_the_meta_device_takes_weights_by_assignment(weights):
    model = copy.deepcopy(shell("soft_pico"))
    model.load_state_dict(to_official_keys(weights), assign=True)
    assert torch.equal(model.head.weight, weights["head.weight"])


def test_load_state_dict_that_is_not_strict_reports_keys_and_still_refuses_shapes(weights):
    del weights["norm.bias"]
    result = pico().load_state_dict({**weights, "fc.bias": torch.zeros(1)}, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["norm.bias"], ["fc.bias"])
    with pytest.raises(SettingError, match="1 of another shape"):
        pico().load_state_dict({"norm.weight": torch.zeros(3)}, strict=False)


# By way of timm


@WRAPPED
@pytest.mark.parametrize("names", ["ours", "official"])
def test_timm_reads_every_wrapping(wrapping, names, weights, tmp_path):
    inner = weights if names == "ours" else to_official_keys(weights)
    path = str(write(tmp_path / "w.pth", wrapping, inner))
    assert equal(timm.create_model("soft_pico", checkpoint_path=path).state_dict(), weights)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_timm_gives_the_golden_logits_of_a_released_file(name, tmp_path):
    """Double precision in a file of float64 weights, in one wrapping each; built at 256 pixels, embeddings resized."""
    weights = {f"module.{key}": value for key, value in official_weights("soft_tiny").items()}
    if name == "w.safetensors":
        save_file(weights, tmp_path / name)
    else:
        torch.save({"state_dict": {}, "state_dict_ema": weights, "args": Namespace()}, tmp_path / name)
    options = {"checkpoint_path": str(tmp_path / name), "dtype": torch.float64}
    x = image(8, (1, 3, 256, 256))
    for size in ({}, {"img_size": 256, "num_landmarks": 64}):
        logits = timm.create_model("soft_tiny", **options, **size).eval()(x)
        assert relative_error(logits, golden("soft_tiny_256.logits")) < 2e-7


def test_timm_refuses_another_number_of_classes(weights, tmp_path):
    torch.save(to_official_keys(weights), tmp_path / "w.pth")
    with pytest.raises(SettingError, match="into 1000 classes and the model into 10: build it with num_classes=1000"):
        timm.create_model("soft_pico", num_classes=10, checkpoint_path=str(tmp_path / "w.pth"))


def test_timm_adapts_a_released_file_given_as_pretrained(weights, tmp_path):
    """timm's door for transfer: it resets the classifier, adapts to other input channels and makes feature pyramids."""
    torch.save({"state_dict_ema": to_official_keys(weights)}, tmp_path / "w.pth")
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "w.pth")}}
    model = timm.create_model("soft_pico", num_classes=10, in_chans=1, **options)
    assert torch.equal(model.norm.weight, weights["norm.weight"])
    torch.testing.assert_close(model.stem[0].conv.weight, weights["stem.0.conv.weight"].sum(1, keepdim=True))
    pyramid = timm.create_model("soft_pico", features_only=True, out_indices=(0, 1), **options)
    assert torch.equal(pyramid.model.stages[1].pos_embed, weights["stages.1.pos_embed"])


@pytest.mark.parametrize(("in_file", "in_model"), [(10, 10), (1000, 1000), (10, 7), (10, 1000)])
def test_timm_keeps_a_pretrained_classifier_where_it_fits(in_file, in_model, tmp_path):
    """By itself timm takes every file for one of 1,000 classes, and would drop or refuse the others."""
    source = pico(num_classes=in_file)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    overlay = {"file": str(tmp_path / "w.pth")}
    model = timm.create_model("soft_pico", num_classes=in_model, pretrained=True, pretrained_cfg_overlay=overlay)
    assert model.head.weight.shape == (in_model, 192)
    assert torch.equal(model.norm.weight, source.norm.weight)
    if in_file == in_model:
        assert torch.equal(model.head.weight, source.head.weight)


def test_timm_refuses_pretrained_weights_of_another_model(weights, tmp_path):
    """By itself timm loads what fits and leaves the rest as drawn, where the number of classes differs."""
    del weights["stages.0.blocks.0.attn.q.weight"]
    weights["fc.weight"] = torch.zeros(3)
    torch.save(weights, tmp_path / "w.pth")
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "w.pth")}}
    with pytest.raises(
        SettingError, match=r"1 missing \(stages\.0\.blocks\.0\.attn\.q\.weight\); 1 unknown \(fc\.weight"
    ):
        timm.create_model("soft_pico", num_classes=10, **options)
