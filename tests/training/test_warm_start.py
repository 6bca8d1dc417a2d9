"""A training that begins with weights: what is loaded, resized and new, and what is said about it."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import to_2tuple

from soft.data.classes import imagenet_wnids
from soft.errors import SettingError
from soft.export.timm_folder import export_timm
from soft.models.factory import create_from_config, find_config, option_differences
from soft.models.key_names import to_official_keys
from soft.models.metadata import KEY, Metadata, attach_metadata
from soft.training.warm_start import warm_start

PETS = ["cat", "dog", "owl", "pig"]


def pico(classes: int = 4, **options) -> torch.nn.Module:
    model = timm.create_model("soft_pico", num_classes=classes, **{"img_size": 32, "num_landmarks": 4, **options})
    torch.nn.init.normal_(model.head.bias)
    return model


def write(path, model, names=PETS, dataset="imagenet", **more):
    facts = Metadata({"name": "soft_pico"}, dataset, tuple(names) if names else None, (32, 32)).to_dict()
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": weights, KEY: facts} | more, path)
    return path


@pytest.fixture
def source():
    return pico()


def same_backbone(one, other) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items() if "head" not in key)


@pytest.mark.parametrize(
    ("names", "rows", "text"),
    [
        (PETS, [0, 1, 2, 3], "the classifier is kept, because its classes are the same."),
        (PETS[::-1], [3, 2, 1, 0], "made of the rows of the 4 classes by name, among the 4 of the file."),
        (["dog", "pig"], [1, 3], "made of the rows of the 2 classes by name, among the 4 of the file."),
        (["ant", "dog", "pig", "yak", "zho"], [None, 1, 3, None, None], "new but for the 2 of 5 classes that the file"),
        (["ant", "yak"], [None, None], "new, because its classes were cat, dog, owl and 1 more."),
        (["0", "1", "2", "3"], [None] * 4, "new, because its classes were cat, dog, owl and 1 more."),
    ],
)
def test_rows_of_the_classifier_are_found_by_name(names, rows, text, source, tmp_path):
    model = pico(len(names))
    weight, bias = model.head.weight.clone(), model.head.bias.clone()
    note = warm_start(model, write(tmp_path / "w.ckpt", source), names, "folders")
    assert text in note
    assert note.startswith(f"Warm start from the weights in {tmp_path / 'w.ckpt'}, trained on imagenet: ")
    assert same_backbone(model, source)
    for place, row in enumerate(rows):
        expected = (weight[place], bias[place]) if row is None else (source.head.weight[row], source.head.bias[row])
        assert torch.equal(model.head.weight[place], expected[0])
        assert torch.equal(model.head.bias[place], expected[1])


def test_numbers_are_the_same_classes_in_the_same_data_alone(source, tmp_path):
    numbers = ["0", "1", "2", "3"]
    path = write(tmp_path / "w.ckpt", source, numbers, "fake")
    for dataset, kept in (("fake", True), ("digits", False)):
        model = pico()
        note = warm_start(model, path, numbers, dataset)
        assert torch.equal(model.head.weight, source.head.weight) is kept
        assert ("kept" in note) is kept


def test_a_new_head_may_be_asked_for(source, tmp_path):
    model = pico()
    own = model.head.weight.clone()
    note = warm_start(model, write(tmp_path / "w.ckpt", source), PETS, "folders", new_head=True)
    assert torch.equal(model.head.weight, own)
    assert "the classifier is new, because finetune.new_head=true says so." in note


def test_an_older_checkpoint_of_the_same_data_names_no_classes(source, tmp_path):
    weights = {f"model.{key}": value for key, value in source.state_dict().items()}
    recipe = {"model": {"name": "soft_pico"}, "data": {"dataset": "digits", "img_size": 32}}
    torch.save({"state_dict": weights, "recipe": recipe}, tmp_path / "w.ckpt")
    names = [str(number) for number in range(4)]
    assert "kept" in warm_start(pico(), tmp_path / "w.ckpt", names, "digits")
    assert "does not name its classes" in warm_start(pico(), tmp_path / "w.ckpt", names, "fake")


@pytest.mark.parametrize("kind", ["w.pth", "w.safetensors"])
def test_a_released_file_has_imagenets_classes(kind, tmp_path):
    source, path = pico(1000), tmp_path / kind
    official = {key: value.contiguous() for key, value in to_official_keys(source.state_dict()).items()}
    save_file(official, path) if kind.endswith("s") else torch.save({"state_dict": official}, path)
    names, model = ["n02102040", "n01440764"], pico(2)
    note = warm_start(model, path, names, "imagenet")
    assert "the rows of the 2 classes by name, among the 1000 of the file" in note
    assert same_backbone(model, source)
    rows = [imagenet_wnids().index(name) for name in names]
    assert torch.equal(model.head.weight, source.head.weight[rows])


@pytest.mark.parametrize("inside", ["", "model.safetensors"])
def test_a_folder_of_timms(inside, source, tmp_path):
    source.eval()
    attach_metadata(source, Metadata(class_names=tuple(PETS), img_size=(32, 32)))
    export_timm(source, tmp_path / "timm", (32, 32))
    model = pico()
    assert "kept" in warm_start(model, tmp_path / "timm" / inside, PETS, "folders")
    assert same_backbone(model, source)
    assert torch.equal(model.head.weight, source.head.weight)


@pytest.mark.parametrize("size", [64, (48, 80)], ids=str)
def test_another_size_is_resized_in_a_word(size, source, tmp_path):
    config = {"name": "soft_pico", "attention": {"attention": "soft", "num_landmarks": 4}}
    model = create_from_config(config, 4, size)
    note = warm_start(model, write(tmp_path / "w.ckpt", source), PETS, "folders")
    grid = model.stages[0].grid
    assert f"Resized to this model: position embeddings from 16x16 to {grid[0]}x{grid[1]} tokens" in note
    assert "landmark windows from 8x8, 4x4, 2x2 to" in note
    assert model(torch.randn(1, 3, *to_2tuple(size))).isfinite().all()
    assert model.stages[1].blocks[0].attn.landmarks.num_landmarks == 4
    # An enlarged image means about the same to the resized model.
    small = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4), (32, 32), mode="bicubic")
    large = torch.nn.functional.interpolate(small, to_2tuple(size), mode="bicubic")
    with torch.no_grad():
        before, after = source.eval()(small), model.eval()(large)
    assert torch.nn.functional.cosine_similarity(before, after).item() > 0.9


def test_a_size_that_leaves_no_room_for_the_landmarks_names_a_number_that_fits():
    config = {"name": "soft_pico", "attention": {"attention": "soft", "num_landmarks": 9}}
    with pytest.raises(SettingError, match=r"num_landmarks=9 \(3x3\) is larger than .* 2x6 tokens; use at most 4"):
        create_from_config(config, 4, (16, 48))


def test_another_model_is_refused(source, tmp_path):
    model = timm.create_model("soft_pico", num_classes=4, attention="softmax")
    with pytest.raises(SettingError, match="do not fit the model"):
        warm_start(model, write(tmp_path / "w.ckpt", source), PETS, "folders")
    with pytest.raises(SettingError, match="There is no checkpoint file"):
        warm_start(model, tmp_path / "none.ckpt", PETS, "folders")


def test_a_warm_start_from_an_unfinished_run_says_how_to_go_on_with_it(source, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "run.json").touch()
    path = write(tmp_path / "run" / "checkpoints" / "last.ckpt", source)
    assert warm_start(pico(), path, PETS).endswith(f"resume={tmp_path / 'run'} would go on with it instead.")
    (tmp_path / "run" / "result.json").touch()
    assert "resume" not in warm_start(pico(), path, PETS)


@pytest.mark.parametrize(("recorded", "name"), [(None, "sum"), ("sum", None), (None, None)])
def test_the_plain_sum_is_the_same_attention_by_either_name(recorded, name, tmp_path):
    """A configuration has null, and timm's models record `sum`."""
    config = {"name": "soft_pico", "attention": {"attention": "soft", "num_landmarks": 4, "global_scale": name}}
    model = create_from_config(config, 4, 32)
    theirs = {**config, "attention": {**config["attention"], "global_scale": recorded}}
    path = write(tmp_path / "w.ckpt", model, **{KEY: Metadata(theirs, "imagenet", tuple(PETS), (32, 32)).to_dict()})
    assert "another" not in warm_start(model, path, PETS, "folders")
    assert option_differences(theirs, config["attention"]) == []
    assert find_config(path)["attention"]["global_scale"] is None
