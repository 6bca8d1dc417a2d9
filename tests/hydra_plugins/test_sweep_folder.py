"""Which runs of a sweep are known, and where the next one goes."""

import yaml

from hydra_plugins import sweep_folder
from hydra_plugins.sweep_folder import SweepFolder, recipe_key


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
    return recipe_key({"output_dir": "elsewhere", "study": {"name": "y"}, "model": {"m": m}})


def test_finished_runs_are_recognised_by_their_config(tmp_path):
    write(tmp_path / "7", 4, result_json="{}")
    write(tmp_path / "1", 9)
    runs = SweepFolder(tmp_path)
    assert runs.finished(key(4)) == tmp_path / "7"
    assert runs.finished(key(9)) is None
    assert runs.finished(key(16)) is None


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


def test_a_job_of_an_older_version_is_still_the_same_job():
    old = {"data": {"root": "x", "num_classes": None, "recipe": {"epochs": 2}}, "schedule": {"epochs": 2}}
    new = {"data": {"root": "x", "num_classes": None, "split": None}, "schedule": {"epochs": 2}, "suggested": {"lr": 1}}
    assert recipe_key(new) == recipe_key(old)
    assert recipe_key(new) != recipe_key({**new, "data": {"root": "y"}})


def test_a_sweep_over_what_watches_a_run_runs_every_job(tmp_path):
    jobs = [["+callbacks.fault.step=1", "seed=0"], ["+callbacks.fault.step=2", "seed=0"]]
    varied = sweep_folder._varied(jobs)
    assert varied == ["callbacks.fault.step"]
    recipes = [{"callbacks": {"fault": {"step": step}, "other": step}} for step in (1, 2)]
    assert len({recipe_key(recipe, varied) for recipe in recipes}) == 2
    assert len({recipe_key(recipe) for recipe in recipes}) == 1
    trials = [["callbacks.pruning.trial=1"], ["callbacks.pruning.trial=2"]]
    assert (
        sweep_folder._varied(trials) == sweep_folder._varied([["name=a"], ["name=b"]]) == sweep_folder._varied([]) == []
    )
