"""Files are data and never run; secrets stay out of what a run writes; names stay inside their folders."""

import ast
import logging
import pickle
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml

import soft  # noqa: F401 - registers the models
from cli import recorded, safe_names, secrets
from cli.command_line import ConfigError
from soft.data.facts import facts
from soft.errors import SettingError
from soft.models.checkpoints import read_recipe, read_weights
from soft.models.factory import create_from_config
from tests.end_to_end.command import run, run_here
from tests.invoke import invoke

SRC = Path(__file__).resolve().parents[2] / "src"
TINY = ("data=fake", "data.train_images=64", "data.val_images=20", "data.batch_size=16", "schedule.epochs=1")


class Touch:
    """Object that makes a file when it is unpickled, as code in a checkpoint could."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture(params=["state_dict", "recipe", "bare"])
def trap(request, tmp_path):
    """Return a checkpoint with code in it, and the path of the file that the code would make."""
    caught = tmp_path / "caught"
    weights = timm.create_model("soft_pico", num_classes=10).state_dict()
    content = {"state_dict": weights, "recipe": {"data": {}}, "pytorch-lightning_version": "2.6.0"}
    content = Touch(caught) if request.param == "bare" else {**content, request.param: Touch(caught)}
    path = tmp_path / "evil.ckpt"
    torch.save(content, path)
    pickle.loads(pickle.dumps(Touch(caught)))  # shows that the trap works
    assert caught.exists()
    caught.unlink()
    return path, caught


def test_no_reader_runs_code(trap):
    path, caught = trap
    with pytest.raises(SettingError, match="never executed"):
        read_weights(path)
    assert read_recipe(path) is None
    with pytest.raises(Exception, match=r"weights_only|allowlist"):
        timm.create_model("soft_pico", num_classes=10, checkpoint_path=str(path))
    assert not caught.exists()


@pytest.mark.parametrize("trap", ["bare"], indirect=True)
@pytest.mark.parametrize(
    "arguments", [("evaluate.py", "checkpoint=evil.ckpt"), ("train.py", "resume=evil.ckpt", *TINY)]
)
def test_no_command_runs_code(arguments, trap, tmp_path):
    assert invoke(*arguments, cwd=tmp_path).returncode == 2
    assert not trap[1].exists()


def test_every_file_is_loaded_as_data():
    """Every call that could unpickle has the argument that forbids it."""
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            called = ast.unparse(node.func)
            assert called not in ("pickle.load", "pickle.loads", "yaml.load", "joblib.load"), f"{path}: {called}"
            if called in ("torch.load", "timm.models.load_state_dict", "load_checkpoint") or called.endswith(
                "trainer.fit"
            ):
                assert ast.unparse(keywords["weights_only"]) == "True", f"{path}: {ast.unparse(node)}"
            assert ast.unparse(keywords.get("allow_pickle", ast.Constant(False))) == "False", path


DATA = {
    **yaml.safe_load((SRC.parent / "conf" / "base" / "images.yaml").read_text()),
    **facts("digits"),
    "dataset": "digits",
    "augment": {"_target_": "soft.data.augmentation.Augmentation", "label_smoothing": 0.1},
    "seed": 0,
    "recipe": {"epochs": 20},  # of older versions
}


def test_a_recorded_recipe_builds_our_data():
    module = recorded.build_recorded(DATA, "x.ckpt")
    assert module.dataset == "digits"
    assert module.augment.label_smoothing == 0.1


@pytest.mark.parametrize("target", ["os.system", "soft.data.datasets.gzip.open", "subprocess.run", None])
@pytest.mark.parametrize("nested", [False, True])
def test_a_recorded_recipe_calls_nothing_else(target, nested):
    evil = {"_target_": target, "command": "touch caught"}
    with pytest.raises(ConfigError, match=f"x.ckpt {'wants its data read by' if target else 'does not say how'}"):
        recorded.build_recorded({**DATA, "augment": evil} if nested else evil, "x.ckpt")


def test_a_recorded_recipe_reads_no_environment(monkeypatch):
    monkeypatch.setenv("MINE", "secret")
    config = {**DATA, "dataset": "cifar10", "root": "${oc.env:MINE}"}
    assert str(recorded.build_recorded(config, "x.ckpt").options["root"]) == "${oc.env:MINE}"


@pytest.mark.parametrize(
    "key", ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"]
)
@pytest.mark.parametrize("place", ["model", "attention"])
def test_a_recorded_model_loads_no_file(key, place):
    config = {"name": "soft_pico", "attention": {}}
    (config if place == "model" else config["attention"])[key] = "evil.ckpt"
    with pytest.raises(SettingError, match=f"model.{key}"):
        create_from_config(config, 10)


def test_evaluate_does_not_call_what_a_checkpoint_names(tmp_path):
    weights = timm.create_model("soft_pico", num_classes=10).state_dict()
    data = {"_target_": "os.system", "command": "touch caught", "img_size": 32}
    torch.save(
        {"state_dict": weights, "recipe": {"data": data, "model": {"name": "soft_pico"}}}, tmp_path / "evil.ckpt"
    )
    done = run_here("evaluate.py", "checkpoint=evil.ckpt", cwd=tmp_path, expect=2)
    assert "'os.system', which is not one of" in done.stderr
    assert not (tmp_path / "caught").exists()


def test_an_override_calls_no_system_function(tmp_path):
    evil = "+callbacks.x={_target_:os.system,command:'touch caught'}"
    done = run_here("train.py", *TINY, evil, cwd=tmp_path, expect=2)
    assert "callbacks.x does not take what was set" in done.stderr
    assert "os.system" in done.stderr
    assert not (tmp_path / "caught").exists()


# Secrets that are typed in several ways. None of them may appear in anything that a run writes or prints.
SECRETS = {
    "url password": ("+study.source=s3://ACCESS:{}@bucket/images", "Hunter2Hunter2"),
    "url token": ("+study.mirror='https://host/path?token={}&part=1'", "tok-0123456789"),
    "key": ("+logger.csv.api_key={}", "key-0123456789"),
    "note": ("logger.wandb.notes='see https://me:{}@host/x'", "Note2Note2Note2"),
    "tag": ("logger.wandb.tags=['https://me:{}@host/x']", "Tag4Tag4Tag4"),
    "environment": ("+hydra.job.env_set.WANDB_API_KEY={}", "0123456789" * 4),
}


@pytest.fixture(scope="module")
def secretive_run(tmp_path_factory):
    """Return folder and output of a run with typed secrets and one in the environment, logged to W&B offline."""
    folder = tmp_path_factory.mktemp("secretive")
    words = [word.format(secret) for name, (word, secret) in SECRETS.items() if name != "key"]
    more = ("logger=wandb", "logger.wandb.mode=offline", "+study.note=${oc.env:MY_TOKEN}", "hydra.run.dir=run")
    done = run("train.py", *TINY, *words, *more, cwd=folder, MY_TOKEN="mine-0123456789")
    return folder / "run", done


def test_no_secret_is_written(secretive_run):
    folder, done = secretive_run
    typed = [SECRETS[name][0].format(SECRETS[name][1]) for name in ("note", "tag")]
    words = ("logger=wandb", "logger.wandb.mode=offline", *typed, "hydra.run.dir=run/evaluation")
    for command in (("evaluate.py", "checkpoint=run/checkpoints/last.ckpt", *words), ("report.py", "run=run")):
        assert invoke(*command, cwd=folder.parent).returncode == 0
    files = [path for path in folder.rglob("*") if path.is_file()]
    written = {path.name for path in files}
    assert {"config.yaml", "overrides.yaml", "hydra.yaml", "train.log", "last.ckpt", "metrics.csv"} <= written
    assert {"evaluation.json", "report.html"} <= written
    assert any(name.endswith(".wandb") for name in written)
    for secret in ("mine-0123456789", *(secret for _, secret in SECRETS.values())):
        for path in files:
            assert secret.encode() not in path.read_bytes(), path
        assert secret not in done.stdout + done.stderr


def test_what_is_no_secret_is_written(secretive_run):
    folder, _ = secretive_run
    recipe = yaml.safe_load((folder / "config.yaml").read_text())["study"]
    assert recipe["source"] == "s3://ACCESS:***@bucket/images"
    assert recipe["mirror"] == "https://host/path?token=***&part=1"
    assert recipe["note"] == "***"
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["recipe"]["study"] == recipe


def test_a_run_uses_the_secret_itself(monkeypatch):
    """The reference that replaces a secret on the command line resolves to the secret."""
    from omegaconf import OmegaConf

    for word, secret in SECRETS.values():
        env = {}
        (hidden,) = secrets.hide_secrets([word.format(secret)], env)
        assert secret not in hidden
        assert secrets.hide_secrets([hidden], env) == [hidden]
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        value = OmegaConf.create({"value": hidden.partition("=")[2].strip("'")})["value"]
        assert value == word.format(secret).partition("=")[2].strip("'")


@pytest.mark.parametrize(
    "word",
    [
        "model.global_pool=token",
        "data.root=s3://bucket/a",
        "data.root=ssh://git@host/x",
        "a.token=null",
        "a=https://h/p",
    ],
)
def test_ordinary_words_stay(word):
    assert secrets.hide_secrets([word], {}) == [word]
    assert secrets.mask_text(word) == word


def test_masked_containers(monkeypatch):
    monkeypatch.setenv("SOME_PASSWORD", "correct horse")
    config = {"password": "x", "list": ["https://ghp_abc@host", 3, None], "text": "a correct horse b", "lr": 1e-3}
    masked = {"password": "***", "list": ["https://***@host", 3, None], "text": "a *** b", "lr": 1e-3}
    assert secrets.masked(config) == masked


def test_log_messages_and_tracebacks_are_masked():
    formatter = secrets.MaskingFormatter("%(message)s")
    try:
        raise ValueError("s3://user:hunter2@host")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "at %s", ("https://tok@host",), sys.exc_info())
    text = formatter.format(record)
    assert "hunter2" not in text
    assert "tok@" not in text
    assert "ValueError: s3://user:***@host" in text


@pytest.mark.parametrize(
    "name", ["a", "soft_tiny-imagenet", "a/b", "epoch{epoch}-{val/top1:.2f}", "...", "a..b", 5, ""]
)
def test_names_that_stay_inside(name):
    assert safe_names.inside(name) == str(name)


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/etc/x", "C:\\x", "a\\..\\..\\x", "a\nb", "a\0b"])
def test_names_that_lead_out(name):
    with pytest.raises(safe_names.UnsafeNameError, match=r"run\.name"):
        safe_names.inside(name, "run.name")


@pytest.mark.parametrize(
    "arguments",
    [
        ["name=../../escaped"],
        ["-m", "name=../../escaped", "seed=1,2"],
        ["callbacks.checkpoint.filename=/tmp/escaped"],
        ["-m", "seed=1,2", "hydra.sweep.subdir=../../../../escaped"],
    ],
    ids=lambda words: words[-1],
)
def test_no_name_leads_out_of_its_folder(arguments, tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    done = run_here("train.py", *arguments, *TINY, cwd=inner, expect=2)
    assert "would lead out of its folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
