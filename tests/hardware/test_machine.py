"""The conditions that stand beside every figure."""

import os
import subprocess

import torch

from soft.hardware import machine

CPU = torch.device("cpu")


def test_conditions_of_this_machine():
    facts = machine.describe_machine(CPU)
    versions = ["python", "torch", "lightning", "timm", "commit"]
    assert list(facts) == ["device", "machine", "threads", *versions, "openmp_spin", "gc_threshold"]
    assert facts["machine"] == f"{facts['device']}, {os.cpu_count()} cores"
    assert facts["threads"] == torch.get_num_threads()
    assert torch.__version__.startswith(facts["torch"])  # without its build, such as +cu126


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    facts = machine.describe_machine(torch.device("cuda"))
    assert facts["device"] == "NVIDIA H100"
    assert "NVIDIA" not in facts["machine"]


def test_the_commit_is_that_of_the_code(monkeypatch, tmp_path):
    """Neither that of the working directory nor the name of a tag, with a mark for local changes."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        done = subprocess.run(["git", "-C", tmp_path, *identity, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    code = tmp_path / "machine.py"
    monkeypatch.setattr(machine, "__file__", str(code))
    assert machine.describe_machine(CPU)["commit"] is None
    git("init", "--quiet")
    code.write_text("1")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("tag", "--annotate", "v1", "--message", "v1")
    commit = machine.describe_machine(CPU)["commit"]
    assert len(commit) >= 7
    assert git("rev-parse", "HEAD").startswith(commit)
    code.write_text("2")
    assert machine.describe_machine(CPU)["commit"] == f"{commit}-dirty"


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.describe_machine(CPU)["commit"] is None
