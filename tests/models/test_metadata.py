"""What a checkpoint says beside its weights."""

import json

import pytest
import timm
import torch
from PIL import Image
from timm.layers import to_2tuple
from timm.models._hub import save_for_hf

import soft
from soft.data.batches import normalise
from soft.data.transforms import EvalTransform
from soft.errors import SettingError
from soft.export.timm_folder import export_timm
from soft.models.factory import create_from_checkpoint
from soft.models.metadata import KEY, Metadata, attach_metadata, read_metadata

FACTS = Metadata(
    model={"name": "soft_pico", "attention": {"attention": "soft_norm", "num_landmarks": 4, "global_scale": 16.0}},
    dataset="imagenet",
    class_names=("cat", "dog", "owl"),
    img_size=(40, 48),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.25),
    crop_pct=0.8,
    interpolation="bilinear",
)
# The configuration that older checkpoints hold instead, abridged.
RECIPE = {
    "model": {"name": "soft_pico", "attention": {"attention": "soft", "num_landmarks": 9}, "recipe": {"lr": 0.016}},
    "data": {
        "_target_": "soft.data.datamodule.ImageDataModule",
        "dataset": "digits",
        "img_size": 28,
        "num_classes": 10,
        "mean": [0.3, 0.3, 0.3],
        "std": [0.4, 0.4, 0.4],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    },
}


def write(path, num_classes=3, **content):
    """A checkpoint as training writes it, of the model in `FACTS`."""
    model = timm.create_model(
        "soft_pico", attention="soft_norm", num_landmarks=4, img_size=(40, 48), num_classes=num_classes
    )
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3, **content}, path)
    return path


def test_it_is_kept_as_plain_containers_and_read_again(tmp_path):
    facts = FACTS.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert read_metadata(write(tmp_path / "w.ckpt", **{KEY: facts})) == FACTS


def test_what_is_not_known_is_left_out(tmp_path):
    few = Metadata(dataset="listops", class_names=("0", "1", "2"))
    assert few.to_dict() == {"dataset": "listops", "class_names": ["0", "1", "2"]}
    assert read_metadata(write(tmp_path / "w.ckpt", **{KEY: few.to_dict()})) == few


def test_an_older_checkpoint_says_it_by_its_recipe(tmp_path):
    found = read_metadata(write(tmp_path / "w.ckpt", recipe=RECIPE))
    assert (found.origin, found.class_names, found.dataset) == ("recipe", None, "digits")
    assert (found.img_size, found.mean, found.crop_pct) == ((28, 28), (0.3, 0.3, 0.3), 1.0)
    assert found.model["name"] == "soft_pico"


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("attention", ["soft", "soft_norm", "linformer"])
def test_a_file_from_before_soft_pico_had_its_start_computes_what_it_did(tmp_path, attention, nested):
    options = {"num_landmarks": 4} if attention == "linformer" else {"num_landmarks": 4, "global_scale": "sum"}
    model = timm.create_model("soft_pico", num_classes=3, attention=attention, **options).eval()
    facts = {"attention": attention, "num_landmarks": 4}
    facts = {"name": "soft_pico", **({"attention": facts} if nested else facts)}
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": model.state_dict(), KEY: {"model": facts}}, path)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(create_from_checkpoint(path).eval()(x), model(x))


def test_its_own_words_come_before_the_recipe(tmp_path):
    assert read_metadata(write(tmp_path / "w.ckpt", recipe=RECIPE, **{KEY: FACTS.to_dict()})) == FACTS


@pytest.mark.parametrize("name", ["w.ckpt", "w.pth"])
def test_other_files_say_nothing(name, tmp_path):
    assert read_metadata(write(tmp_path / name)) is None
    assert read_metadata(tmp_path / "none.ckpt") is None
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert read_metadata(tmp_path / "list.ckpt") is None


def test_a_file_that_was_renamed_says_it_too(tmp_path):
    assert read_metadata(write(tmp_path / "w.pth", **{KEY: FACTS.to_dict()})) == FACTS


@pytest.mark.parametrize(
    "content",
    [{KEY: {"mean": ["a", "b", "c"]}}, {KEY: {"img_size": "big"}}, {KEY: [1]}, {"recipe": {"model": {}}}],
    ids=str,
)
def test_malformed_words_are_an_error(content, tmp_path):
    with pytest.raises(SettingError, match=r"w\.ckpt holds metadata that cannot be read"):
        read_metadata(write(tmp_path / "w.ckpt", **content))


def test_a_model_from_a_checkpoint_has_its_class_names_and_preprocessing(tmp_path):
    model = create_from_checkpoint(write(tmp_path / "w.ckpt", **{KEY: FACTS.to_dict()}))
    assert model.pretrained_cfg["label_names"] == ("cat", "dog", "owl")
    assert model.default_cfg is model.pretrained_cfg
    assert timm.data.resolve_model_data_config(model) == {
        "input_size": (3, 40, 48),
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.25),
        "crop_pct": 0.8,
        "interpolation": "bilinear",
        "crop_mode": "center",
    }
    assert timm.create_model("soft_pico").pretrained_cfg["mean"] == timm.data.IMAGENET_DEFAULT_MEAN


@pytest.mark.parametrize("size", [(40, 48), (32, 32)])
def test_timms_transform_is_that_of_our_validation(size):
    model = timm.create_model("soft_pico", num_classes=3)
    attach_metadata(
        model, Metadata(img_size=size, mean=FACTS.mean, std=FACTS.std, crop_pct=0.8, interpolation="bicubic")
    )
    noise = torch.randint(256, (5, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = Image.fromarray(noise.numpy()).resize((90, 70), Image.Resampling.BICUBIC)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(model))(image)
    ours = normalise(EvalTransform(size, 0.8, "bicubic")(image).unsqueeze(0), FACTS.mean, FACTS.std)[0]
    assert theirs.shape == ours.shape
    # Within two grey levels of 255: Pillow resizes the one and PyTorch the other.
    assert ((theirs - ours).abs() * torch.tensor(FACTS.std).view(3, 1, 1)).max() < 2.01 / 255


def test_a_folder_that_timm_wrote_says_the_same(tmp_path):
    model = create_from_checkpoint(write(tmp_path / "w.ckpt", **{KEY: FACTS.to_dict()})).eval()
    export_timm(model, tmp_path / "timm", FACTS.img_size)
    found = read_metadata(tmp_path / "timm")
    assert found == read_metadata(tmp_path / "timm" / "model.safetensors")
    assert {"name": "soft_pico", "attention": "soft_norm", "num_landmarks": 4}.items() <= found.model.items()
    assert not {"img_size", "num_classes"} & set(found.model)
    for name in ("class_names", "img_size", "mean", "std", "crop_pct", "interpolation"):
        assert getattr(found, name) == getattr(FACTS, name)
    again, x = create_from_checkpoint(tmp_path / "timm").eval(), torch.randn(1, 3, 40, 48)
    assert torch.equal(again(x), model(x))
    (tmp_path / "timm" / "config.json").write_text("{")
    with pytest.raises(SettingError, match="holds metadata that cannot be read"):
        read_metadata(tmp_path / "timm")


@pytest.mark.parametrize(("size", "safetensors"), [(64, True), ((64, 48), False)])
def test_a_folder_that_timm_wrote_by_itself_gives_the_model_its_size(size, safetensors, tmp_path):
    model, folder = timm.create_model("soft_pico", num_classes=3, img_size=size).eval(), tmp_path / "timm"
    save_for_hf(model, folder, safe_serialization=safetensors)
    again = soft.load_model(folder)
    assert [stage.grid for stage in again.stages] == [stage.grid for stage in model.stages]
    x = torch.randn(1, 3, *to_2tuple(size))
    assert torch.equal(again(x), model(x))


def test_another_classifier_has_no_class_names(tmp_path):
    path = write(tmp_path / "w.ckpt", **{KEY: FACTS.to_dict()})
    model = create_from_checkpoint(path)
    model.reset_classifier(3)
    assert "label_names" not in model.pretrained_cfg
    assert "label_names" not in create_from_checkpoint(path, num_classes=5).pretrained_cfg
