"""`--help` fits a screen or two, and says what there is to choose and to set."""

import subprocess
import sys

import pytest

from cli.places import CONFIG_DIR, SOURCES
from tests.invoke import invoke

COMMANDS = sorted(path.stem for path in CONFIG_DIR.glob("*.yaml") if (SOURCES / f"{path.stem}.py").is_file())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = invoke(f"{command}.py", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) < 90
    assert max(map(len, lines)) <= 120
    assert f"python src/{command}.py" in lines[2]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--help"], ["--cfg", "job"]])
def test_an_answer_does_not_wait_for_pytorch(option):
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); import train"
    command = [sys.executable, "-c", f"{code}; train.main()", *option]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == "False\n"


def test_help_names_groups_options_and_settings(tmp_path):
    text = invoke("train.py", "--help", cwd=tmp_path).stdout
    assert text.startswith("Train a SOFT model.\n")
    for group in ("data", "model", "model/attention", "experiments"):
        assert f"\n  {group} " in text
    for word in (
        "[digits]",
        "cifar10",
        "[soft_pico]",
        "soft_huge",
        "landmarks_iterations",
        "seed=0",
        "seed of weights",
    ):
        assert word in text
    assert "base" not in text.split()
    assert "facts" not in text.split()


def test_help_of_a_group(tmp_path):
    text = invoke("train.py", "trainer=v100_ddp", "--help", cwd=tmp_path).stdout
    assert "[v100_ddp]  The paper's hardware" in text
    assert "trainer.devices=8 " in text
    assert "seed=0" not in text


def test_help_leaves_out_what_has_no_effect(tmp_path):
    text = invoke("export.py", "--help", cwd=tmp_path).stdout
    assert "float16_batch=null" in text
    assert "\n  augment" not in text
    assert "\n  seed=" not in text


def test_help_of_what_is_not_there_ends_in_a_sentence(tmp_path):
    done = invoke("train.py", "data=digit", "--help", cwd=tmp_path)
    assert done.returncode == 2
    assert "data=digit is not known; did you mean digits?" in done.stderr


def test_help_knows_options_of_one_s_own(tmp_path):
    (tmp_path / "mine" / "trainer").mkdir(parents=True)
    (tmp_path / "mine" / "trainer" / "lab.yaml").write_text("# My lab.\ndefaults: [auto, _self_]\naccelerator: cpu\n")
    text = invoke("train.py", "--config-dir=mine", "trainer=lab", "--help", cwd=tmp_path).stdout
    assert "[lab]" in text
    assert "My lab." in text
    assert "trainer.accelerator=cpu" in text
    assert " lab " in invoke("train.py", "--config-dir=mine", "--help", cwd=tmp_path).stdout
