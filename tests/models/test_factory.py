"""Models from configurations and from files."""

import pytest
import timm
import torch

import soft
from soft.errors import SettingError
from soft.models.factory import create_from_checkpoint, create_from_config, describe_model, option_differences
from soft.models.key_names import to_official_keys
from soft.models.metadata import KEY, Metadata


def save(path, model, official=False, **content):
    """`model` as training writes it, or as the authors do."""
    weights = model.state_dict()
    if official:
        torch.save(
            {"state_dict_ema": {f"module.{key}": value for key, value in to_official_keys(weights).items()}}, path
        )
    else:
        torch.save({"state_dict": {f"model.{key}": value for key, value in weights.items()}, **content}, path)
    return path


def same_logits(one: torch.nn.Module, other: torch.nn.Module, size: tuple[int, int]) -> bool:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(one(x), other.eval()(x))


# A model's own configuration


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "soft_norm", "num_landmarks": 4, "sampling": "avgpool", "drop_path_rate": 0.1},
        {"attention": "performer", "num_features": 20, "global_pool": "avg"},
        {"depths": (1, 1, 1, 1), "img_size": (28, 32)},
    ],
    ids=str,
)
def test_a_description_builds_the_model_again(options):
    model = timm.create_model("soft_pico", num_classes=7, **options)
    again = create_from_config(describe_model(model), 7, options.get("img_size"))
    assert str(again) == str(model)
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize(("name", "pool"), [("soft_pico", "avg"), ("soft_encoder", "ask")])
def test_a_description_has_the_pooling_of_a_new_classifier(name, pool):
    model = timm.create_model(name, num_classes=7)
    model.reset_classifier(3)
    assert "global_pool" not in describe_model(model)
    model.reset_classifier(3, pool)
    assert create_from_config(describe_model(model), 3).global_pool == pool


def test_a_model_of_ones_own_has_no_description():
    assert describe_model(torch.nn.Linear(1, 1)) is None


def test_a_file_does_not_choose_the_kernels(tmp_path):
    """A model that was trained by Triton runs on a machine without it, and the other way round."""
    model = timm.create_model("soft_pico", num_classes=3, kernels="triton")
    assert "kernels" not in describe_model(model)
    attention = {"attention": "soft", "num_landmarks": 4, "kernels": "triton"}
    facts = {"model": {"name": "soft_pico", "attention": attention}}
    model = timm.create_model("soft_pico", num_classes=3, num_landmarks=4)
    path = save(tmp_path / "w.ckpt", model, **{KEY: facts})

    def kernels(model):
        return {block.attn.kernels for stage in model.stages[:3] for block in stage.blocks}

    assert kernels(create_from_config(facts["model"], 3)) == {"triton"}
    assert kernels(create_from_checkpoint(path)) == kernels(soft.load_model(path)) == {"auto"}
    assert kernels(create_from_checkpoint(path, attention_options={"kernels": "torch"})) == {"torch"}
    assert kernels(soft.load_model(path, kernels="triton")) == {"triton"}
    assert option_differences(facts["model"], {"kernels": "torch", "num_landmarks": 4}) == []


def test_attention_is_a_name_or_a_mapping():
    flat = create_from_config({"name": "soft_pico", "attention": "linformer", "num_landmarks": 4}, 10)
    nested = create_from_config({"name": "soft_pico", "attention": {"attention": "linformer", "num_landmarks": 4}}, 10)
    assert str(flat) == str(nested)


# Checkpoints of ours


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(path, model) of a checkpoint at 28 x 40 px with normalised attention."""
    torch.manual_seed(0)
    options = {"attention": "soft_norm", "num_landmarks": 4, "img_size": (28, 40)}
    model = timm.create_model("soft_pico", num_classes=3, **options)
    facts = Metadata(describe_model(model), "digits", ("a", "b", "c"), (28, 40), (0.3,) * 3, (0.4,) * 3, 1.0, "bicubic")
    return save(tmp_path_factory.mktemp("run") / "best.ckpt", model, **{KEY: facts.to_dict()}), model


def test_a_checkpoint_is_all_that_is_needed(checkpoint):
    path, model = checkpoint
    loaded = soft.load_model(path)
    assert same_logits(loaded, model, (28, 40))
    assert not loaded.training
    assert loaded.pretrained_cfg["label_names"] == ("a", "b", "c")
    assert timm.data.resolve_model_data_config(loaded)["input_size"] == (3, 28, 40)
    assert same_logits(soft.load_model(str(path), "soft_pico"), model, (28, 40))


def test_a_checkpoint_at_another_size_is_resized_from_its_own(checkpoint, caplog):
    path, _ = checkpoint
    loaded = soft.load_model(path, img_size=56)
    assert [stage.grid for stage in loaded.stages[:2]] == [(28, 28), (14, 14)]
    assert timm.data.resolve_model_data_config(loaded)["input_size"] == (3, 56, 56)
    assert "position embeddings from 14x20 to 28x28 tokens" in caplog.text
    assert torch.isfinite(loaded(torch.randn(1, 3, 56, 56))).all()


def test_a_checkpoint_with_another_number_of_landmarks(checkpoint, caplog):
    path, _ = checkpoint
    loaded = soft.load_model(path, num_landmarks=9)
    assert loaded.stages[0].blocks[0].attn.landmarks.num_landmarks == 9
    assert "which num_landmarks=4 would leave as they are" in caplog.text


def test_another_number_of_classes_gives_a_new_classifier_and_says_so(checkpoint, caplog):
    path, model = checkpoint
    loaded = soft.load_model(path, num_classes=5)
    assert loaded.head.weight.shape[0] == 5
    assert torch.equal(loaded.norm.weight, model.norm.weight)
    assert caplog.messages == ["The classifier of 5 classes is new; the one in the file has 3."]
    assert isinstance(create_from_checkpoint(path, num_classes=0).head, torch.nn.Identity)


def test_a_new_classifier_for_as_many_classes_has_no_names(checkpoint, caplog):
    path, model = checkpoint
    loaded = create_from_checkpoint(path, reset_head=True)
    assert loaded.head.weight.shape == model.head.weight.shape
    assert not torch.equal(loaded.head.weight, model.head.weight)
    assert "label_names" not in loaded.pretrained_cfg
    assert caplog.messages == ["The classifier of 3 classes is new; the one in the file has 3."]


def test_raw_weights_on_request(tmp_path):
    model, average = (timm.create_model("soft_pico", num_classes=3) for _ in range(2))
    ema = {f"ema.module.{key}": value for key, value in average.state_dict().items()}
    content = {KEY: Metadata(describe_model(model)).to_dict()}
    path = save(tmp_path / "w.ckpt", model, **content)
    torch.save({"state_dict": torch.load(path)["state_dict"] | ema, **content}, path)
    assert torch.equal(soft.load_model(path).head.weight, average.head.weight)
    assert torch.equal(soft.load_model(path, weights="raw").head.weight, model.head.weight)


# Released files


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("soft_pico", "anything.pth"),
        ("soft_tiny", "SOFT_tiny.pth"),
        ("soft_norm_tiny", "SOFT-norm-tiny.pth.tar"),
    ],
)
def test_a_released_model_is_found_by_its_shapes_and_its_files_name(model, file, tmp_path, caplog):
    size = (32, 32) if model == "soft_pico" else (64, 64)
    options = {} if model == "soft_pico" else {"depths": (1, 2, 3, 2), "num_landmarks": 4, "img_size": 64}
    built = timm.create_model(model, num_classes=10, **options)
    loaded = soft.load_model(save(tmp_path / file, built, official=True))
    assert same_logits(loaded, built, size)
    assert loaded.pretrained_cfg["architecture"] == model
    assert f"{file} does not say which model it holds; it was taken for {model} by its shapes" in caplog.text
    assert loaded.pretrained_cfg["input_size"] == (3, *size)
    assert loaded.pretrained_cfg["mean"] == timm.data.IMAGENET_DEFAULT_MEAN


def test_a_name_that_is_given_is_taken(tmp_path, caplog):
    built = timm.create_model("soft_norm_tiny", num_classes=10, num_landmarks=4, img_size=64)
    path = save(tmp_path / "w.pth", built, official=True)
    assert same_logits(soft.load_model(path, "soft_norm_tiny"), built, (64, 64))
    assert same_logits(soft.load_model(path, name="soft_tiny", attention="soft_norm"), built, (64, 64))
    assert not caplog.messages
    with pytest.raises(
        SettingError, match=r"w\.pth has the shapes of soft_tiny and soft_norm_tiny; say which with name="
    ):
        soft.load_model(path)


def test_another_attention_has_to_be_named(tmp_path):
    built = timm.create_model("soft_pico", num_classes=10, attention="softmax")
    path = save(tmp_path / "w.pth", built)
    with pytest.raises(SettingError, match=r"does not say which attention .* name='soft_pico', attention='softmax'"):
        soft.load_model(path)
    assert same_logits(soft.load_model(path, "soft_pico", attention="softmax"), built, (32, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "soft_tny"}, r"^name='soft_tny' is not a SOFT model; did you mean soft_tiny"),
        ({"pretrained": True}, r"^pretrained is not a setting of a SOFT model"),
        ({"landmarks": 9}, r"has no option 'landmarks'"),
        ({"weights": "best"}, r"weights='best' is not known"),
        ({"num_landmarks": 25}, r"num_landmarks=25 .* use at most 16"),
    ],
    ids=str,
)
def test_errors_speak_of_the_argument(arguments, message, checkpoint):
    with pytest.raises(SettingError, match=message):
        soft.load_model(save(checkpoint[0].with_name("w.pth"), timm.create_model("soft_pico")), **arguments)


def test_weights_of_no_model_of_ours_are_refused(tmp_path):
    model = timm.create_model("soft_pico", depths=(2, 2, 2, 2))
    with pytest.raises(
        SettingError, match=r"no SOFT model has its depths \(2, 2, 2, 2\) and widths \(32, 64, 128, 192\)"
    ):
        soft.load_model(save(tmp_path / "w.pth", model))
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(SettingError, match="no SOFT model has its depths"):
        soft.load_model(tmp_path / "w.pth")
