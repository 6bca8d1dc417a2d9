"""The files that logger=wandb writes without an account, read by W&B's own reader."""

import json

import pytest

from soft.studies.workspace import build_workspace, outline
from tests.end_to_end.command import read_csv, run_fresh, run_here, values
from tests.wandb_runs import logged, read_run

SWEEP = (
    *("model.attention.num_landmarks=4,9", "seed=0,1,2", "hydra.launcher.jobs=2", "logger=wandb", "model=soft_pico"),
    *("data=fake", "data.train_images=32", "data.val_images=10", "data.batch_size=8", "augment=paper"),
    *("trainer.max_steps=4", "trainer.log_every_n_steps=1", "callbacks.logged_images.attention_images=1"),
)
NAMES = {f"num_landmarks={landmarks} seed={seed}": (landmarks, seed) for landmarks in (4, 9) for seed in (0, 1, 2)}


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "group", "study"),
    [
        (("-m", "trainer=cpu", "hydra.sweep.dir=my_sweep"), "my_sweep", None),
        (
            ("experiments=landmarks", "model/attention=soft", "trainer=cpu_ddp", "trainer.devices=2"),
            "landmarks-laptop",
            "landmarks",
        ),
    ],
    ids=["one process each", "two processes each, a study"],
)
def test_a_sweep_of_six_is_six_runs(typed, group, study, tmp_path):
    done = run_fresh("train.py", *typed, *SWEEP, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert "6 of 6 runs finished" in done.stdout
    files = sorted(tmp_path.rglob("*.wandb"))
    runs = [read_run(path) for path in files]
    assert len(list(tmp_path.rglob("offline-run-*"))) == len(files) == 6
    assert {run["run_id"] for _, run, _ in runs} == {
        json.loads(p.read_text())["id"] for p in tmp_path.rglob("run.json")
    }
    assert {digest["name"] for digest, _, _ in runs} == set(NAMES)
    for path, (digest, run_record, records) in zip(files, runs, strict=True):
        folder, config = path.parents[2], digest["config"]
        assert run_record["run_group"] == group
        assert digest["tags"] == ["soft_pico", "fake", "soft", *([study] if study else [])]
        assert (config["model"]["attention"]["num_landmarks"], config["seed"]) == NAMES[digest["name"]]
        assert config["derived"]["devices"] == (2 if study else 1)
        assert f"seed={config['seed']} " in config["command"]
        assert config["environment"]["commit"]
        assert config.get("study") == ({"name": study, "scale": "laptop"} if study else None)
        top1 = values(read_csv(folder), "val/top1")
        assert digest["summary"]["val/top1"] == {"max": pytest.approx(max(top1))}
        assert logged(records, "val/top1") == pytest.approx(top1)
        assert len(logged(records, "train/loss")) == 4
        assert digest["exit_code"] == 0
        assert any(record["type"] == "stats" for record in records)
    check_names(runs[0][2])


def check_names(records):
    """Check that the dashboard shows only metrics that are logged."""
    known = {key.removesuffix("._type") for r in records if r["type"] == "history" for key in r["history"]["item"]}
    shown = [line.partition(": ")[2] for line in outline(build_workspace("me", "soft")) if line.startswith("    ")]
    metrics = [name for line in shown for name in line.replace(" over ", ", ").split(", ")]
    assert {m for m in metrics if not m.startswith(("model.", "system/"))} <= known | {"_runtime"}
    for key, count in (("images/first_batch", 1), ("images/attention_maps", 1)):
        assert logged(records, f"{key}.count") == [count]


def test_offline_checkpoints_are_refused_before_anything_starts(tmp_path):
    done = run_here(
        "train.py", "logger=wandb", "logger.wandb.log_model=all", "hydra.run.dir=run", cwd=tmp_path, expect=2
    )
    assert "logger.wandb.log_model=all uploads checkpoints, and this run is offline" in done.stderr


@pytest.mark.slow
def test_without_an_account_the_dashboard_is_printed(tmp_path):
    done = run_fresh("dashboard.py", cwd=tmp_path)
    assert "workspace 'SOFT'" in done.stdout
    assert "report 'Number of landmarks'" in done.stdout
    assert "there is no login" in done.stdout
    views = json.loads(run_here("dashboard.py", "study=landmarks", "print=json", cwd=tmp_path).stdout)
    assert [view["displayName"] for view in views] == ["Number of landmarks"]
    assert "study=landmark trains nothing" in run_here("dashboard.py", "study=landmark", cwd=tmp_path, expect=2).stderr
