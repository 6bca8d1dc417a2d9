"""Generated tasks and images as grey pixels, from training to evaluation and export."""

import json

import pytest
import timm
import torch

import soft
from soft.data.tasks.task_datamodule import TaskDataModule
from soft.models.factory import create_from_checkpoint
from soft.runs.signals import SIGNALS, Stopped
from soft.training.build import load_module
from soft.training.module import ImageClassifier
from tests.end_to_end.command import read_csv, run_here, values
from tests.golden import relative_error
from tests.runs.test_exact_resume import stop_at
from tests.training.small_run import outcome, unequal

# Three of Newton's steps are traced in less time than twenty.
SHORT = (
    *("model=soft_encoder", "model.attention.num_landmarks=4", "model.attention.newton_iters=3"),
    *("data.batch_size=16", "data.num_workers=0"),
)
EXAMPLES = ("data.train_examples=64", "data.val_examples=24")
TASKS = {
    "recall": EXAMPLES,
    "listops_short": EXAMPLES,
    "listops": (*EXAMPLES, "data.img_size=[1,40]", "data.min_length=3"),
    "pathfinder": (*EXAMPLES, "data.img_size=16", "data.seed_distance=3", "data.dashes=3", "data.distractor_dashes=1"),
    "pixels": ("data.img_size=8", "trainer.limit_train_batches=4", "data.val_batch_size=360"),
}


def evaluated(folder, name, *words):
    """What src/evaluate.py writes about last.ckpt of run `name`."""
    run_here("evaluate.py", f"checkpoint={name}/checkpoints/last.ckpt", *words, "hydra.run.dir=evaluated", cwd=folder)
    return json.loads((folder / "evaluated" / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of two epochs for each task."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, words in TASKS.items():
        length = ("schedule.epochs=2", "schedule.warmup_epochs=0", f"hydra.run.dir={name}")
        run_here("train.py", *SHORT, f"data={name}", *words, *length, cwd=folder)
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_a_recorded_task_gives_the_logged_top1(name, trained):
    result, rows = evaluated(trained, name), read_csv(trained / name)
    assert result["top1"] == pytest.approx(values(rows, "val/top1")[-1], abs=1e-9)
    assert result["loss"] == pytest.approx(values(rows, "val/loss")[-1], rel=1e-6)
    assert result["settings"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TASKS) - {"listops"}))  # the same as listops_short, but longer
def test_a_program_of_a_task_needs_pytorch_alone(name, trained):
    words = (f"checkpoint={name}/checkpoints/last.ckpt", "hydra.run.dir=program")
    printed = run_here("export.py", *words, cwd=trained).stdout
    model = create_from_checkpoint(trained / name / "checkpoints" / "last.ckpt").eval()
    integers = name != "pixels"  # which are images, normalised
    assert ("integers (B" in printed) == integers
    assert ("normalised with mean [0.5]" in printed) == (name == "pixels")
    program = torch.export.load(trained / "program" / "model.pt2").module()
    shape = (3, model.in_chans, *model.img_size)
    torch.manual_seed(0)
    inputs = torch.randint(model.vocabulary, shape) if integers else torch.randn(shape)
    with torch.no_grad():
        assert relative_error(program(inputs), model(inputs)) < 5e-6


@pytest.mark.parametrize("name", ["recall", "pixels"])
def test_the_module_of_a_checkpoint_is_built_again(name, trained):
    module = load_module(ImageClassifier, trained / name / "checkpoints" / "last.ckpt")
    assert module.model.img_size == (8, 8)
    assert not module.training


def test_another_split_is_evaluated(trained):
    assert evaluated(trained, "recall", "data.split=test")["images"] == 2000
    assert evaluated(trained, "recall", "data.split=train")["images"] == 64


def test_another_number_of_newton_steps_is_evaluated(trained):
    as_trained = evaluated(trained, "recall")
    one = evaluated(trained, "recall", "model.attention.newton_iters=1")
    assert one["loss"] != as_trained["loss"]
    assert one["settings"] == {"model.attention.newton_iters": 1}
    assert any("newton_iters is 1, and was 3" in note for note in one["notes"])
    same = evaluated(trained, "recall", "model.attention.newton_iters=3")
    assert same["loss"] == as_trained["loss"]
    assert same["notes"] == as_trained["notes"]
    more = evaluated(trained, "recall", "model.attention.num_landmarks=16")
    assert more["loss"] != as_trained["loss"]
    assert any("num_landmarks is 16, and was 4" in note for note in more["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.attention.newton_iters=0"], "newton_iters=0 has to be a whole number of at least 1"),
        (["model.attention.sampling=first"], "build the model with sampling=conv"),
        (["model.attention.pinv_iters=3"], "has no option 'pinv_iters'"),
        (["data=digits"], "data=digits gives images, and model.embedding=table takes token ids"),
        (["data.crop_pct=0.9"], "data.dataset=recall does not take data.crop_pct"),
        (["data.img_size=6"], "set data.img_size to [8, 8]"),
        (["data.split=tset"], "data.split='tset' is not known; it is one of train, val, test"),
    ],
    ids=str,
)
def test_an_evaluation_that_does_not_fit_is_a_sentence(words, message, trained):
    done = run_here("evaluate.py", "checkpoint=recall/checkpoints/last.ckpt", *words, cwd=trained, expect=2)
    assert message in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=recall", "augment=none"], "and model=soft_pico takes images. Choose model=soft_encoder"),
        (["data=recall"], "choose augment=none, as model=soft_encoder does"),
        (["model=soft_encoder", "augment.mixup=0.5"], "choose augment=none"),
        (["model=soft_encoder", "data=digits", "model.embedding=table"], "Set model.embedding=linear"),
        (["model=soft_encoder", "data.colours=80"], "set model.vocabulary to at least 81"),
        (["model=soft_encoder", "data.pairs=80"], "data.pairs=80 and the cell that asks do not fit the 64 cells"),
        (["model=soft_encoder", "model.attention.num_landmarks=65"], "num_landmarks=65 is not a square number"),
        (["model=soft_encoder", "data=listops_short", "model.attention.num_landmarks=201"], "use at most 200"),
        (["model=soft_encoder", "model.local_kernel=4"], "model.local_kernel=4 has to be odd, or 0"),
    ],
    ids=str,
)
def test_a_training_that_does_not_fit_is_a_sentence(words, message, tmp_path):
    done = run_here("train.py", *words, "hydra.run.dir=run", cwd=tmp_path, expect=2)
    assert message in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_pictures_have_no_place_in_a_task(trained):
    words = ("image=photo.jpg", "checkpoint=recall/checkpoints/last.ckpt")
    done = run_here("visualize.py", *words, cwd=trained, expect=2)
    assert "was not trained on pictures" in done.stderr


def test_a_stopped_run_goes_on_with_the_same_examples(tmp_path):
    """An epoch of recall has fresh examples, which a resumed run draws as the undisturbed one does."""

    def train(folder, *callbacks):
        SIGNALS.received = 0
        data = TaskDataModule("recall", train_examples=48, val_examples=8, batch_size=16, num_workers=0)
        torch.manual_seed(0)
        model = timm.create_model("soft_encoder", in_chans=2, global_pool="ask", num_landmarks=4)
        options = {"accelerator": "cpu", "trainer_options": {"log_every_n_steps": 1}}
        fitted = soft.fit(model, data, 3, tmp_path / folder, callbacks=callbacks, **options)
        return outcome(fitted.trainer)

    whole = train("whole")
    with pytest.raises(Stopped):
        train("part", stop_at("on_train_batch_end", 5))
    assert list(unequal(train("part"), whole)) == []


@pytest.mark.parametrize("words", [(*EXAMPLES,), ("data=digits", "data.img_size=8")], ids=["token ids", "images"])
def test_images_are_logged_where_there_are_any(words, tmp_path):
    wandb = ("logger=wandb", "logger.wandb.mode=offline", "trainer.max_steps=2")
    run_here("train.py", *SHORT, *words, *wandb, "hydra.run.dir=run", cwd=tmp_path)
    pictures = list(tmp_path.glob("run/wandb/offline-run-*/files/media/images/images/*.png"))
    assert bool(pictures) == ("data=digits" in words)
