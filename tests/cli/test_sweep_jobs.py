"""What the jobs of a sweep are told of the words that were typed for it."""

import pytest
from omegaconf import OmegaConf

from cli import sweep_jobs
from cli.sweep_jobs import words_for_jobs
from hydra_plugins import processes
from hydra_plugins.processes import Job, ProcessLauncher

FOR_JOBS = [
    "hydra.searchpath=[file:///conf]",
    "hydra.job.chdir=true",
    "+hydra.job.env_set.FOO=bar",
    "+hydra.job.env_set.MY_TOKEN=${oc.env:SOFT_SECRET_1}",
    "hydra.verbose=true",
    "hydra/job_logging=stdout",
    "~hydra.callbacks",
]
OF_THE_SWEEP = [
    "hydra.mode=MULTIRUN",
    "hydra.sweep.dir=s3",
    "hydra.sweep.subdir=${hydra.job.num}",
    "hydra/sweeper=grid",
    "+hydra.sweeper.params={seed:[0,1]}",
    "hydra/launcher=processes",
    "hydra.launcher.jobs=2",
]


@pytest.fixture
def hydra_config(monkeypatch):
    """Hydra's node of a sweep for which words of both kinds were typed."""
    monkeypatch.setenv("SOFT_SECRET_1", "the secret itself")
    words = [*OF_THE_SWEEP, *FOR_JOBS, "hydra.run.dir=outputs"]
    config = {"overrides": {"hydra": words, "task": ["seed=1"]}, "job": {"num": 1, "config_name": "train"}}
    return OmegaConf.create(config | {"runtime": {"output_dir": "s3/1"}})


def test_only_what_is_about_jobs_is_handed_to_them(hydra_config):
    assert words_for_jobs(hydra_config) == FOR_JOBS


def test_jobs_on_this_machine_get_them(hydra_config, monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(processes, "run_tree", lambda command, **_: commands.append(command) or 0)
    launcher = ProcessLauncher()
    launcher.config = OmegaConf.create({"hydra": hydra_config})
    launcher._run(Job(1, ["seed=1"], launcher.config, tmp_path))
    assert [word for word in commands[0] if word in FOR_JOBS] == FOR_JOBS
    assert not set(OF_THE_SWEEP) & set(commands[0])


def test_jobs_of_other_launchers_get_them(hydra_config, monkeypatch):
    commands = []
    monkeypatch.setattr(sweep_jobs.HydraConfig, "get", lambda: hydra_config)
    monkeypatch.setattr(sweep_jobs, "run_tree", lambda command, **_: commands.append(command) or 0)
    sweep_jobs.run_sweep_job("train.py")
    assert [word for word in commands[0] if word in FOR_JOBS] == FOR_JOBS
    assert not set(OF_THE_SWEEP) & set(commands[0])
