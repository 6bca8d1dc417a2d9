"""Every setting of every command refuses what it does not mean: in a sentence, with exit code 2, and before any work.

Each gets a value that is out of its range or a word that is not among its choices; in the slow set, it also gets one
of a wrong type, and its own name misspelt.
"""

import os
from fnmatch import fnmatch

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from tests.composed import Command
from tests.invoke import invoke

CHECKPOINT = "checkpoint=runs/0/checkpoints/best.ckpt"
FOLDERS = ("data=imagenet", "data.root=images", "data.batch_size=4", "data.img_size=32")

HUB = ("data.path", "data.subset", "data.revision", "data.*_split", "data.*_column", "data.max_bad_images")

# The words of each command, and which of its settings are tried; the others are tried with another command.
COMMANDS = {
    "train": (["train", "trainer=cpu"], "*"),
    "train, W&B": (["train", "trainer=cpu", "logger=wandb", "logger.wandb.mode=offline"], "logger.*"),
    "train, SGD": (["train", "trainer=cpu", "optimizer=sgd"], "optimizer.*"),
    "train, a search": (["train", "trainer=cpu", "hparams_search=optuna"], "callbacks.pruning.*"),
    "train, Linformer": (["train", "trainer=cpu", "model/attention=linformer"], "model.attention.*"),
    "train, Nystromformer": (["train", "trainer=cpu", "model/attention=nystromformer"], "model.attention.*"),
    "train, Performer": (["train", "trainer=cpu", "model/attention=performer"], "model.attention.*"),
    "train, noise": (["train", "trainer=cpu", "data=fake"], "data.*"),
    "train, folders": (["train", "trainer=cpu", *FOLDERS], "data.*"),
    "train, Hugging Face": (["train", "trainer=cpu", "data=hf", "data.path=images", "data.batch_size=4"], *HUB),
    "train, recall": (["train", "trainer=cpu", "model=soft_encoder", "data=recall"], "data.*"),
    "train, ListOps": (["train", "trainer=cpu", "model=soft_encoder", "data=listops_short"], "data.*"),
    "train, Pathfinder": (["train", "trainer=cpu", "model=soft_encoder", "data=pathfinder"], "data.*"),
    "train, the encoder": (["train", "trainer=cpu", "model=soft_encoder", "data=recall"], "model.*"),
    "train, fine-tuning": (
        [
            "train",
            "trainer=cpu",
            "experiments=finetune",
            CHECKPOINT,
            "data=fake",
            "data.train_images=8",
            "data.batch_size=4",
        ],
        *("checkpoint", "finetune.*", "loss.*", "optimizer.*"),
    ),
    "evaluate": (["evaluate", CHECKPOINT, "trainer=cpu"], "*"),
    "evaluate, other data": (["evaluate", CHECKPOINT, "trainer=cpu", "data=fake"], "data.*"),
    "export": (["export", CHECKPOINT], "*"),
    "visualize": (["visualize", CHECKPOINT, "image=images/val/a/0.png"], "*"),
    "predict": (["predict", CHECKPOINT, "images=images/val"], "*"),
    "evaluate, W&B": (["evaluate", CHECKPOINT, "trainer=cpu", "logger=wandb", "logger.wandb.mode=offline"], "logger.*"),
    "report": (["report", "sweep=runs"], "*"),
    "report, a run": (["report", "run=runs/0"], "run", "evaluate", "evaluation", "maps", "page"),
    "benchmark": (["benchmark"], "*"),
    "dashboard": (["dashboard", "dry_run=true"], "*"),
    "verify_data": (["verify_data", "data.root=images"], "*"),
    "write_shards": (["write_shards", "data.root=images", "out=shards"], "*"),
}

# Settings that take any text, and folders to write to, which cannot lie below a file.
TEXTS = {
    *("callbacks.checkpoint.filename", "callbacks.pruning.storage", "callbacks.pruning.study", "data.revision"),
    *("entity", "name", "project"),
    *(f"logger.wandb.{name}" for name in ("entity", "project", "name", "group", "job_type", "notes")),
}
FOLDERS_TO_WRITE = {"out", "output_dir", "data.cache", "callbacks.*.dirpath", "callbacks.*.folder", "logger.*.save_dir"}
# W&B takes numbers for tags.
OTHERS = {"logger.wandb.tags": ["banana", "[[1]]"]}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Return a folder with class folders, a run and a plain file, in which the commands are composed."""
    folder = tmp_path_factory.mktemp("settings")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    for place in ("train/a", "train/b", "val/a", "val/b"):
        (folder / "images" / place).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(pixels).save(folder / "images" / place / f"{number}.png")
    (folder / "file").touch()
    small = ("data=fake", "data.train_images=8", "data.batch_size=4", "data.val_images=8", "schedule.epochs=1")
    done = invoke("train.py", *small, "trainer=cpu", "hydra.run.dir=runs/0", cwd=folder)
    assert done.returncode == 0, done
    return folder


def wrong_values(key: str, default: object) -> list[str]:
    """Return values of wrong types, and as the last one the value that is out of range or no choice."""
    if key in OTHERS:
        return OTHERS[key]
    if key in TEXTS:
        return ["{a: 1}", "[1,2]"]
    if any(fnmatch(key, pattern) for pattern in FOLDERS_TO_WRITE):
        return ["file/x"]
    if isinstance(default, bool):
        return ["banana", "7"]
    if isinstance(default, int | float):
        return ["banana", "-7"]
    if isinstance(default, list):
        return ["banana", "[-7]"]
    if isinstance(default, str):
        return ["[1,2]", f"{default}x"]
    return ["banana", "{a: 1}", "-7"]


@pytest.fixture(autouse=True)
def _without_hydra():
    yield
    GlobalHydra.instance().clear()


@pytest.fixture
def tried(name, here, tmp_path, monkeypatch):
    """Return the command `name`, and the (key, default) of each of its settings that are tried."""
    if name == "train, Hugging Face":
        pytest.importorskip("datasets")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
    if name == "train, a search":
        pytest.importorskip("optuna")
    for variable in [key for key in os.environ if key.startswith(("WANDB_", "HYDRA_", "IMAGENET_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(here)
    words, *patterns = COMMANDS[name]
    command = Command(*words, folder=tmp_path / "run")
    assert command.answer("process.gc_threshold=700").code in (0, None)  # with right settings the work begins
    settings = [(key, value) for key, value in command.settings if any(fnmatch(key, pattern) for pattern in patterns)]
    settings = [(key, value) for key, value in settings if "data.augment" not in key]  # the group augment again
    assert settings
    return command, settings


def faults(command: Command, key: str, values: list[str]) -> list[str]:
    """Return what is wrong with the answers to wrong values of a setting."""
    found = []
    for value in values:
        answer, last = command.answer(f"{key}={value}"), key.rpartition(".")[2]
        named = last in answer.message or value in answer.message
        if answer.code != 2 or not named or len(answer.message.splitlines()) > 3:
            found.append(f"{key}={value}: {answer}")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_values_out_of_range(tried):
    command, settings = tried
    found = [fault for key, default in settings for fault in faults(command, key, wrong_values(key, default)[-1:])]
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_types_and_names(tried):
    command, settings = tried
    found = [fault for key, default in settings for fault in faults(command, key, wrong_values(key, default)[:-1])]
    for key, _ in settings:
        answer = command.answer(f"{key}x=1")
        if answer.code != 2 or not answer.message.startswith(f"{key}x is not a setting"):
            found.append(f"{key}x=1: {answer}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("value", ["null", "sum", "auto", "16", "0.5"])
def test_a_global_scale_may_be_null(value, here, tmp_path, monkeypatch):
    """Null is the sum as published, also where the model has another default."""
    monkeypatch.chdir(here)
    words, *_ = COMMANDS["train"]
    answer = Command(*words, folder=tmp_path / "run").answer(f"model.attention.global_scale={value}")
    assert answer.code in (0, None), answer
