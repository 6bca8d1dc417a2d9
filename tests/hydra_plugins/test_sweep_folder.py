"""Which runs of a sweep are recognised, and in which folder the next one runs."""

import json

import yaml

from hydra_plugins import missing_runs
from hydra_plugins.sweep_folder import SweepFolder
from soft.runs.identity import FORMAT, identity


def write(folder, m, **files):
    (folder / ".hydra").mkdir(parents=True)
    config = {
        "model": {"m": m},
        "output_dir": str(folder),
        "logger": {"csv": 1},
        "callbacks": {},
        "study": {"name": "x"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json").replace("_ckpt", ".ckpt")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def key(m):
    return identity({"output_dir": "elsewhere", "study": {"name": "y"}, "model": {"m": m}})


def test_finished_runs_are_recognised_by_their_config(tmp_path):
    write(tmp_path / "7", 4, result_json="{}")
    write(tmp_path / "1", 9)
    runs = SweepFolder(tmp_path)
    assert runs.find(key(4)) == tmp_path / "7"
    assert runs.find(key(9)) == tmp_path / "1"
    assert runs.find(key(16)) is None


def test_a_finished_run_goes_before_an_unfinished_one(tmp_path):
    write(tmp_path / "0", 4)
    write(tmp_path / "1", 4, result_json="{}")
    assert SweepFolder(tmp_path).find(key(4)) == tmp_path / "1"


def test_a_run_of_an_older_version_is_recognised_by_the_settings_it_had(tmp_path):
    write(tmp_path / "0", 4, result_json="{}")
    newer = {**key(4), "model.added_since": 1}
    assert SweepFolder(tmp_path).find(newer) == tmp_path / "0"
    (tmp_path / "0" / "run.json").write_text(json.dumps({"format": FORMAT, "recipe": {"model": {"m": 4}}}))
    assert SweepFolder(tmp_path).find(newer) is None


def test_a_new_run_takes_no_folder_of_another(tmp_path):
    write(tmp_path / "0", 4, result_json="{}")
    write(tmp_path / "1", 9)
    runs = SweepFolder(tmp_path)
    assert runs.place(key(16), "0") == (tmp_path / "2", None)
    assert runs.place(key(25), "0") == (tmp_path / "3", None)
    assert (tmp_path / "0" / "result.json").is_file()


def test_an_unfinished_run_goes_on_in_its_folder(tmp_path):
    write(tmp_path / "3", 4, checkpoints__last_ckpt="weights")
    folder, checkpoint = SweepFolder(tmp_path).place(key(4), "0")
    assert (folder, checkpoint) == (tmp_path / "3", tmp_path / "3" / "checkpoints" / "last.ckpt")
    assert checkpoint.read_text() == "weights"


def test_without_a_checkpoint_it_starts_afresh(tmp_path):
    write(tmp_path / "3", 4, metrics_csv="old")
    assert SweepFolder(tmp_path).place(key(4), "0") == (tmp_path / "3", None)
    assert not (tmp_path / "3").exists()


def test_a_run_that_goes_on_from_another_is_recognised_after_it_was_stopped(tmp_path):
    write(tmp_path / "0", 4, checkpoints__last_ckpt="weights")
    config = yaml.safe_load((tmp_path / "0" / "config.yaml").read_text())
    job = identity({**config, "output_dir": "elsewhere", "resume": "r6"}, ["resume"])
    for resume in ("r6", str(tmp_path / "0" / "checkpoints" / "last.ckpt")):
        (tmp_path / "0" / "config.yaml").write_text(yaml.safe_dump({**config, "resume": resume}))
        (tmp_path / "0" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["resume='r6'", f"resume='{resume}'"]))
        assert SweepFolder(tmp_path, ["resume"]).find(job) == tmp_path / "0"
        assert SweepFolder(tmp_path, ["resume"]).find(job | {"resume": "r5"}) is None


def test_a_job_of_an_older_version_is_still_the_same_job():
    old = {"data": {"root": "x", "num_classes": None, "recipe": {"epochs": 2}}, "schedule": {"epochs": 2}}
    new = {"data": {"root": "x", "num_classes": None, "split": None}, "schedule": {"epochs": 2}, "suggested": {"lr": 1}}
    assert identity(new) == identity(old)
    assert identity(new) != identity({**new, "data": {"root": "y"}})


def test_a_sweep_over_what_watches_a_run_runs_every_job(tmp_path):
    jobs = [["+callbacks.fault.step=1", "seed=0"], ["+callbacks.fault.step=2", "seed=0"]]
    varied = missing_runs._varied(jobs)
    assert varied == ["callbacks.fault.step"]
    recipes = [{"callbacks": {"fault": {"step": step}, "other": step}} for step in (1, 2)]
    assert identity(recipes[0], varied) != identity(recipes[1], varied)
    assert identity(recipes[0]) == identity(recipes[1])
    trials = [["callbacks.pruning.trial=1"], ["callbacks.pruning.trial=2"]]
    assert (
        missing_runs._varied(trials) == missing_runs._varied([["name=a"], ["name=b"]]) == missing_runs._varied([]) == []
    )
