"""What soft.fit and soft.evaluate do with arguments that do not fit together, and in folders that hold a training."""

import json
import logging
import shutil

import pytest
import timm
import torch
from PIL import Image

import soft
from soft.errors import SettingError
from soft.models.metadata import Metadata, attach_metadata
from soft.training.module import ImageClassifier
from tests.end_to_end.command import run_here

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0), "grey": (99, 99, 99)}
ON_CPU = {"accelerator": "cpu"}


def write_colours(root, *names, images=4):
    """Write train/ and val/ of class folders, each with plain images of the colour that names it."""
    for split in ("train", "val"):
        for name in names:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(images):
                Image.new("RGB", (32, 32), COLOURS[name]).save(folder / f"{name}{i}.png")
    return root


def read(root, **options):
    sizes = {"img_size": 32, "batch_size": 4, "num_workers": 0}
    return soft.ImageDataModule("imagenet", root=root, **{**sizes, **options})


def small_model(classes, **options):
    torch.manual_seed(0)
    return timm.create_model("soft_pico", num_classes=classes, img_size=32, num_landmarks=4, newton_iters=3, **options)


def train(data, folder, model=None, epochs=1, **options):
    data.setup("fit")
    options = {"trainer_options": {"limit_val_batches": 1}, **ON_CPU, **options}
    return soft.fit(model or small_model(data.num_classes), data, epochs, folder, **options)


class Colours(torch.nn.Module):
    """A perfect model of blue, green and red."""

    num_classes = 3

    def __init__(self, *names):
        super().__init__()
        self.pretrained_cfg = {"label_names": names} if names else {}
        self.weight = torch.nn.Parameter(
            torch.tensor([COLOURS[name] for name in names or ("blue", "green", "red")]) / 1.0
        )

    def forward(self, images):
        return images.mean((2, 3)) @ self.weight.T


def test_classes_are_matched_by_name(tmp_path, caplog):
    data = read(write_colours(tmp_path, "green", "red"))
    with caplog.at_level(logging.WARNING):
        assert soft.evaluate(Colours("blue", "green", "red"), data, **ON_CPU)["top1"] == 100
    assert "2 of the model's 3 classes" in caplog.text


def test_classes_that_the_model_does_not_know_are_refused(tmp_path):
    data = read(write_colours(tmp_path / "other", "blue", "green", "grey"))
    with pytest.raises(SettingError, match="does not know: grey"):
        soft.evaluate(Colours("blue", "green", "red"), data, **ON_CPU)
    more = read(write_colours(tmp_path / "more", *COLOURS))
    with pytest.raises(SettingError, match="3 classes without names and the data set has 4"):
        soft.evaluate(Colours(), more, **ON_CPU)


def test_names_of_an_older_classifier_name_nothing(tmp_path):
    """A classifier that timm made anew keeps the names of the old one, which are more than its classes."""
    model = Colours()
    model.pretrained_cfg = {"label_names": ["green", "red", "blue", "grey"]}
    assert soft.evaluate(model, read(write_colours(tmp_path, "blue", "green", "red")), **ON_CPU)["top1"] == 100


def test_another_preprocessing_is_said(tmp_path, caplog):
    data, model = read(write_colours(tmp_path, "green", "red"), mean=[0.1] * 3), small_model(2)
    facts = {"mean": (0.5,) * 3, "std": data.std, "crop_pct": data.crop_pct, "interpolation": data.interpolation}
    attach_metadata(model, Metadata(class_names=("green", "red"), img_size=(32, 32), **facts))
    soft.evaluate(model, data, **ON_CPU)
    notes = [record.getMessage() for record in caplog.records if "prepared" in record.getMessage()]
    assert notes == ["Images are prepared in another way: mean is [0.1, 0.1, 0.1], but [0.5, 0.5, 0.5] in training."]


def test_a_model_that_does_not_say_its_classes(tmp_path):
    with pytest.raises(SettingError, match="The Linear has no attribute num_classes"):
        soft.evaluate(torch.nn.Linear(2, 2), read(write_colours(tmp_path, "green", "red")), **ON_CPU)


@pytest.mark.parametrize("classes", [2, 1000])
def test_a_model_with_another_number_of_classes_is_not_trained(classes, tmp_path):
    data = read(write_colours(tmp_path / "data", "blue", "green", "red"))
    with pytest.raises(SettingError, match=f"The model has {classes} classes and the data 3"):
        soft.fit(small_model(classes), data, folder=tmp_path / "run", **ON_CPU)
    assert not (tmp_path / "run").exists()


def test_the_data_of_an_evaluation_is_fetched_for_a_training_too(tmp_path, monkeypatch):
    """The data module has the trainer of the evaluation, which says that nothing is trained."""
    fetched, data = [], read(write_colours(tmp_path / "data", "blue", "green"))
    monkeypatch.setattr("soft.data.datamodule.fetch", lambda name, options, train, split: fetched.append(train))
    soft.evaluate(small_model(2), data, **ON_CPU)
    assert fetched == [False]
    with pytest.raises(SettingError):
        soft.fit(small_model(3), data, folder=tmp_path / "run", **ON_CPU)
    assert fetched == [False, True]


OTHER_DATA = {"seed": 7, "mean": [0.1] * 3, "sampling": "balanced", "batch_size": 8, "crop_pct": 0.5, "split": "train"}
OTHER_ARGUMENTS = {
    "augment": soft.Augmentation(mixup=0.8),
    "trainer_options": {"gradient_clip_val": None},
    "seed": 1,
    "ema_warmup": False,
    "max_nonfinite_steps": 3,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of the data and of a training that is finished, and what soft.fit returned."""
    root = tmp_path_factory.mktemp("trained")
    write_colours(root / "data", "blue", "green", "red")
    return root, train(read(root / "data"), root / "run")


def test_a_finished_training_is_not_trained_again(trained):
    root, first = trained
    model = small_model(3)
    again = train(read(root / "data"), root / "run", model)
    assert again.metrics == first.metrics
    assert {"val/top1", "train/loss_epoch"} <= set(again.metrics)
    assert again.checkpoint == first.checkpoint == root / "run" / "checkpoints" / "best.ckpt"
    assert again.trainer.checkpoint_callback.best_model_path == str(again.checkpoint)
    assert torch.equal(model.head.weight, first.trainer.lightning_module.model.head.weight)
    assert not torch.equal(model.head.weight, small_model(3).head.weight)


@pytest.mark.parametrize("name", OTHER_DATA)
def test_other_data_is_another_training(name, trained):
    root, _ = trained
    with pytest.raises(SettingError, match=f"holds a run with other settings: .*{name}=.*Choose another folder"):
        train(read(root / "data", **{name: OTHER_DATA[name]}), root / "run")


def test_a_folder_of_other_classes_is_another_training(trained, tmp_path):
    root, _ = trained
    data = read(write_colours(tmp_path, "blue", "green", "grey"))
    with pytest.raises(SettingError, match=r"holds a run with other settings: data\.root="):
        train(data, root / "run")
    with pytest.raises(SettingError, match=r"had other classes \(blue, green, red\)"):
        train(data, tmp_path / "run", epochs=2, resume=str(root / "run"))


def test_nothing_is_left_to_train(trained, tmp_path):
    root, _ = trained
    with pytest.raises(SettingError, match=r"so epochs=1 leaves nothing to train.*soft\.load_model"):
        train(read(root / "data"), tmp_path / "run", resume=str(root / "run"))


@pytest.mark.parametrize("name", OTHER_ARGUMENTS)
def test_other_arguments_are_another_training(name, trained):
    root, _ = trained
    with pytest.raises(SettingError, match="holds a run with other settings: "):
        train(read(root / "data"), root / "run", **{name: OTHER_ARGUMENTS[name]})


def test_another_model_is_another_training(trained):
    root, _ = trained
    with pytest.raises(SettingError, match="holds a run with other settings: "):
        train(read(root / "data"), root / "run", Colours())


def test_a_training_of_an_earlier_version_goes_on(trained, tmp_path):
    """Its recipe says less, and it has no result.json."""
    root, first = trained
    folder = shutil.copytree(root / "run", tmp_path / "run")
    (folder / "result.json").unlink()
    mark = json.loads((folder / "run.json").read_text())
    recipe = {key: mark["recipe"][key] for key in ("output_dir", "model", "optimizer", "schedule", "seed")}
    recipe["data"] = {key: mark["recipe"]["data"][key] for key in ("dataset", "img_size", "batch_size")}
    recipe |= {"ema": {"decay": 0.998}, "trainer": {"precision": "32-true", "max_batch_per_device": 128}}
    (folder / "run.json").write_text(json.dumps({**mark, "recipe": recipe}))
    fitted = train(read(root / "data", mean=[0.4] * 3), folder)
    assert fitted.metrics["val/loss"] == first.metrics["val/loss"]
    with pytest.raises(SettingError, match=r"other settings: epochs=2 \(was 1\), .*\. Choose another folder\."):
        train(read(root / "data", mean=[0.4] * 3), folder, epochs=2)


def test_the_seed_gives_another_order(tmp_path):
    data = read(write_colours(tmp_path / "data", *COLOURS))
    stop = {"limit_train_batches": 1, "limit_val_batches": 1}

    def losses(seed, name):
        fitted = train(data, tmp_path / name, seed=seed, ema_decay=0.0, trainer_options=stop)
        return fitted.metrics["train/loss"]

    assert losses(0, "first") == losses(0, "second") != losses(1, "third")
    assert data.seed == 0  # it may be used with another seed next
    data.seed = 5
    assert losses(0, "fourth") == losses(1, "fifth")


def test_the_schedule_is_fitted_to_a_shorter_training(tmp_path):
    data = read(write_colours(tmp_path / "data", "blue", "green"), batch_size=2)
    shorter = {"limit_train_batches": 2, "limit_val_batches": 1, "log_every_n_steps": 1}
    fitted = train(data, tmp_path / "run", epochs=2, trainer_options=shorter)
    assert fitted.trainer.lightning_module._scheduler.t_initial == 4
    stopped = train(data, tmp_path / "stopped", epochs=2, trainer_options={"max_steps": 3, "limit_val_batches": 1})
    assert stopped.trainer.global_step == stopped.trainer.lightning_module._scheduler.t_initial == 3
    assert "val/top1" in stopped.metrics


WRONG = {
    "monitor=top1 is not a metric of this run; did you mean val/top1": {"monitor": "top1"},
    "val_raw/. is logged with ema_decay above 0 and validate_raw=True": {"monitor": "val_raw/top1", "ema_decay": 0.0},
    "epochs=0.5 has to be a whole number": {"epochs": 0.5},
    r"(?<!trainer\.)precision='half' is not known|precision=half": {"precision": "half"},
    "trainer_options=.'accumulate_grad_batches': .*argument max_batch_per_device": {
        "trainer_options": {"accumulate_grad_batches": 2}
    },
    "trainer_options=.'logger': .*argument more_loggers": {"trainer_options": {"logger": True}},
    "trainer_options=.'epochs': .*has no argument epochs": {"trainer_options": {"epochs": 2}},
    r"^limit_train_batches=2.5 has to be": {"trainer_options": {"limit_train_batches": 2.5}},
    r"^ema_decay=1 has to be": {"ema_decay": 1},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_said_before_anything_is_trained(message, tmp_path):
    data = read(write_colours(tmp_path / "data", "blue", "green"))
    with pytest.raises(SettingError, match=message):
        train(data, tmp_path / "run", **WRONG[message])
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_a_folder_in_use_is_said_in_words_of_python(trained):
    root, _ = trained
    with pytest.raises(SettingError, match=r"holds a run already: .* or choose another folder\."):
        train(read(root / "data"), root / "run", resume=None)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_processes_that_a_launcher_started_are_not_left_alone(call, tmp_path, monkeypatch):
    data = read(write_colours(tmp_path / "data", "blue", "green"))
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    message = "torchrun started 2 processes on each of 1 nodes, and devices=1 is for 1; give devices='auto'"
    with pytest.raises(SettingError, match=message):
        soft.evaluate(small_model(2), data, **ON_CPU) if call == "evaluate" else train(data, tmp_path / "run")


def test_the_trained_model_prepares_images_as_in_training(trained):
    root, fitted = trained
    module = fitted.trainer.lightning_module
    for model in (module.model, module.evaluated_model):
        prediction = soft.predict(model, root / "data" / "val" / "red", top=3)
        assert prediction.preprocessing == soft.predict(soft.load_model(fitted.checkpoint), root).preprocessing
        assert set(prediction.images[0].classes) == {"blue", "green", "red"}
        assert prediction.preprocessing["img_size"] == [32, 32]


def test_a_model_of_timm_is_trained_too(tmp_path):
    data = read(write_colours(tmp_path / "data", "blue", "green"), mean=[0.4] * 3)
    model = timm.create_model("resnet10t", num_classes=2)
    fitted = train(data, tmp_path / "run", model, ema_decay=0.0)
    assert 0 <= fitted.metrics["val/top1"] <= 100
    prediction = soft.predict(model, tmp_path / "data" / "val", top=2)
    assert prediction.preprocessing["mean"] == [0.4] * 3
    assert set(prediction.images[0].classes) == {"blue", "green"}


def test_the_module_of_a_checkpoint_is_built_again(trained):
    _, fitted = trained
    module = ImageClassifier.load_from_checkpoint(fitted.checkpoint)
    assert torch.equal(module.model.head.weight, fitted.trainer.lightning_module.model.head.weight)


def test_a_checkpoint_is_evaluated_by_the_command(trained):
    """The checkpoint says how its data was read."""
    root, fitted = trained
    words = (f"checkpoint={fitted.checkpoint}", "trainer=cpu", f"hydra.run.dir={root / 'evaluation'}")
    run_here("evaluate.py", *words, cwd=root)
    result = json.loads((root / "evaluation" / "evaluation.json").read_text())
    assert result["top1"] == soft.evaluate(soft.load_model(fitted.checkpoint), read(root / "data"), **ON_CPU)["top1"]
