"""Training from a checkpoint's weights, as a user types it."""

import shutil

import pytest
import torch
import yaml

from soft.models.checkpoints import read_weights
from soft.models.factory import create_from_checkpoint
from soft.models.key_names import to_official_keys
from tests.end_to_end.command import read_csv, run_here, values
from tests.invoke import invoke

TINY = ("data=fake", "data.train_images=16", "data.batch_size=4", "data.val_images=8", "trainer=cpu")
SHORT = ("schedule.epochs=2", "schedule.warmup_epochs=1")
MODEL = ("model/attention=soft_norm", "model.attention.num_landmarks=4", "model.attention.newton_iters=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a trained run, source, of a model that is not the default one."""
    folder = tmp_path_factory.mktemp("source")
    words = (*MODEL, "model.drop_path_rate=0.1", "data.num_classes=4", "schedule.epochs=1", "hydra.run.dir=source")
    run_here("train.py", *TINY, *words, cwd=folder)
    return folder


CHECKPOINT = "checkpoint=source/checkpoints/best.ckpt"


def recipe(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def state(run):
    return read_weights(run / "checkpoints" / "last.ckpt", "raw")


@pytest.mark.slow
def test_the_recipe_with_the_checkpoints_model_at_another_size(folder):
    size = "data.img_size=[40,56]"
    words = ("experiments=finetune", CHECKPOINT, *TINY, *SHORT, size, "trainer.log_every_n_steps=1")
    done = run_here("train.py", *words, "hydra.run.dir=a", cwd=folder)
    told = " ".join(done.stdout.split())
    assert "Warm start from the weights in source/checkpoints/best.ckpt, trained on fake: the classifier" in told
    assert "position embeddings from 16x16 to 20x28 tokens in the first stage and landmark windows from" in told
    model = recipe(folder / "a")["model"]
    attention = model["attention"]
    assert (attention["attention"], attention["num_landmarks"], attention["newton_iters"]) == ("soft_norm", 4, 3)
    assert (model["name"], model["drop_path_rate"]) == ("soft_pico", 0.1)
    checkpoint = torch.load(folder / "a/checkpoints/last.ckpt", weights_only=True)
    assert not any(key.startswith("ema.") for key in checkpoint["state_dict"])
    assert "another one" not in told
    # The logged rate is the classifier's, of which the last of four steps of warm-up has three quarters.
    rates = values(read_csv(folder / "a"), "lr")
    assert max(rates) == pytest.approx(0.75 * recipe(folder / "a")["optimizer"]["lr"] * 4 / 1024)
    # It is a checkpoint like any other.
    run_here("evaluate.py", "checkpoint=a/checkpoints/best.ckpt", "trainer=cpu", "hydra.run.dir=e", cwd=folder)


@pytest.mark.slow
def test_what_is_typed_wins_over_the_checkpoint(folder):
    words = ("model.attention.newton_iters=5", "model.drop_path_rate=0", "data.img_size=48", "schedule.epochs=1")
    done = run_here("train.py", CHECKPOINT, *TINY, *words, "hydra.run.dir=b", cwd=folder)
    model = recipe(folder / "b")["model"]
    assert (model["attention"]["newton_iters"], model["attention"]["num_landmarks"]) == (5, 4)
    assert model["drop_path_rate"] == 0
    assert "Warm start" in done.stdout
    done = run_here("train.py", CHECKPOINT, *TINY, "model=soft_pico", "hydra.run.dir=own", cwd=folder)
    assert recipe(folder / "own")["model"]["attention"]["num_landmarks"] == 9  # the typed model's own
    assert "another one than in that training: attention=soft (was soft_norm), num_landmarks=9 (was 4)" in done.stdout
    done = invoke("train.py", CHECKPOINT, *TINY, "model/attention=softmax", cwd=folder)
    assert done.returncode == 2
    assert "do not fit the model" in done.stderr


def test_a_linear_probe_trains_the_classifier_alone(folder):
    words = ("finetune.freeze=[backbone]", "finetune.new_head=true", "schedule.epochs=1", "schedule.warmup_epochs=0")
    words = ("experiments=finetune", CHECKPOINT, *TINY, *words, "data.num_classes=4", "hydra.run.dir=probe")
    done = run_here("train.py", *words, cwd=folder)
    assert "Frozen: backbone; 772 of" in done.stdout
    before, after = read_weights(folder / "source/checkpoints/best.ckpt"), state(folder / "probe")
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {"head.weight", "head.bias"}
    assert create_from_checkpoint(folder / "probe/checkpoints/best.ckpt").num_classes == 4


def test_loss_and_sampling_by_name(folder):
    words = ("loss.name=binary", "loss.class_weights=balanced", "data.sampling=balanced", "schedule.epochs=1")
    run_here("train.py", *TINY, *words, "data.num_classes=3", "hydra.run.dir=c", cwd=folder)
    assert all(loss < 3 for loss in values(read_csv(folder / "c"), "train/loss"))


def test_a_released_file_says_its_model_by_its_name(folder, tmp_path):
    model = create_from_checkpoint(folder / "source/checkpoints/best.ckpt", num_classes=1000)
    torch.save({"state_dict": to_official_keys(model.state_dict())}, tmp_path / "soft_pico.pth")
    done = run_here("train.py", "checkpoint=soft_pico.pth", *TINY, "schedule.epochs=1", "hydra.run.dir=d", cwd=tmp_path)
    assert recipe(tmp_path / "d")["model"]["attention"]["num_landmarks"] == 4  # by the landmark windows' shapes
    assert "the classifier is new, because its classes were n01440764" in done.stdout


@pytest.mark.slow
def test_a_started_run_goes_on_from_its_own_weights(folder, tmp_path):
    """It does so to the bit, with everything that a fine-tuning may choose, and without the file it began with."""
    shutil.copytree(folder / "source", tmp_path / "source")
    chosen = (
        "finetune.freeze=[stem,stage2]",
        "data.sampling=balanced",
        "loss.class_weights=balanced",
        "loss.name=binary",
    )
    words = ("experiments=finetune", CHECKPOINT, *TINY, *SHORT, *chosen, "augment.label_smoothing=0")
    run_here("train.py", *words, "hydra.run.dir=whole", cwd=tmp_path)
    fault = ("+callbacks.fault._target_=tests.end_to_end.faults.Fault", "+callbacks.fault.rank=0")
    often = "callbacks.last_checkpoint.every_n_train_steps=1"
    assert invoke("train.py", *words, often, *fault, cwd=tmp_path).returncode == 1
    shutil.rmtree(tmp_path / "source")
    done = run_here("train.py", *words, "resume=auto", cwd=tmp_path)
    assert "The weights it began with (checkpoint) are not loaded again." in " ".join(done.stdout.split())
    assert "Warm start" not in done.stdout
    (resumed,) = (path.parent for path in tmp_path.glob("outputs/soft_pico-fake/*/result.json"))
    ours, theirs = state(resumed), state(tmp_path / "whole")
    assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


def test_a_warm_start_and_another_training_to_go_on_with_are_one_too_many(folder):
    done = invoke("train.py", CHECKPOINT, *TINY, "resume=source", cwd=folder)
    assert done.returncode == 2
    assert "checkpoint=source/checkpoints/best.ckpt begins a new training with these weights, and" in done.stderr


def test_weights_to_resume_from_are_told_from_a_training(folder, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    done = invoke("train.py", *TINY, "resume=weights.pth", cwd=tmp_path)
    assert done.returncode == 2
    assert "if it is a file of weights, checkpoint=weights.pth begins a new training with them." in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["experiments=finetune"], "experiments=finetune begins with trained weights; add checkpoint=PATH"),
        (["checkpoint=nowhere.ckpt"], "There is no checkpoint file nowhere.ckpt"),
        (["finetune.freeze=[stem]"], "checkpoint=PATH"),
        (["finetune.new_head=true"], "checkpoint=PATH"),
        ([CHECKPOINT, "finetune.freeze=stage9"], "finetune.freeze='stage9' is not a part of the model"),
        ([CHECKPOINT, "data.img_size=[16,64]", "model.attention.num_landmarks=9"], "use at most 4"),
        (["model.freeze=true"], "model.freeze is not a setting; did you mean finetune.freeze"),
    ],
)
def test_a_mistake_is_a_sentence(words, text, folder):
    done = invoke("train.py", *TINY, *words, cwd=folder)
    assert (done.returncode, text in done.stderr) == (2, True), done


def test_examples_that_are_made_on_the_fly_cannot_be_counted(tmp_path):
    done = invoke("train.py", "model=soft_encoder", "trainer=cpu", "loss.class_weights=balanced", cwd=tmp_path)
    assert done.returncode == 2
    assert "loss.class_weights=balanced needs data whose classes can be counted" in done.stderr


def test_a_sweep_of_checkpoints_of_one_model(folder, tmp_path):
    shutil.copytree(folder / "source", tmp_path / "source")
    run_here("train.py", *TINY, "schedule.epochs=1", "hydra.run.dir=other", cwd=tmp_path)
    words = ("-m", "checkpoint=source/checkpoints/best.ckpt,other/checkpoints/best.ckpt", *TINY)
    done = invoke("train.py", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "have different models; choose one with model=NAME" in done.stderr
