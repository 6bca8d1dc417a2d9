"""Folders as sweeps leave them, with figures that we know."""

import json
from pathlib import Path

import yaml

CONFIG = {
    "seed": 0,
    "output_dir": "",
    "name": "soft_pico-digits",
    "data": {"dataset": "digits", "root": "data", "img_size": 32, "seed": 0, "recipe": {"epochs": 20}},
    "optimizer": {"lr": 0.016, "weight_decay": 0.05},
    "schedule": {"epochs": 20, "recipe": {"ema_decay": 0.998}},
    "trainer": {"max_epochs": 20},
    "model": {
        "name": "soft_pico",
        "recipe": {"lr": 0.016},
        "attention": {
            "attention": "soft",
            "num_landmarks": 9,
            "newton_iters": 20,
            "sampling": "conv",
            "inverse": "newton",
        },
    },
}


def write_run(
    folder: Path,
    top1: float,
    seed: int = 0,
    study: dict | None = None,
    residual: float = 1e-6,
    images_per_second: float = 300.0,
    typed: tuple[str, ...] = (),
    **changes: object,
) -> None:
    """One finished run; `changes` are settings with __ for the dot, model__name="soft_tiny"."""
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(CONFIG)) | {"output_dir": str(folder), "seed": seed}
    config["data"]["seed"] = seed
    if study is not None:
        config["study"] = study
    for key, value in changes.items():
        *path, last = key.split("__")
        node = config
        for part in path:
            node = node[part]
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    m = config["model"]["attention"].get("num_landmarks", 9)
    result = {
        "top1": top1,
        "seconds": 60.0,
        "epochs": 20,
        "peak_memory": 2**30,
        "last": {f"newton/residual_stage{stage}": residual / stage for stage in (1, 2, 3)},
        "facts": {
            "params": 1_265_000,
            "macs": 18_000_000 + 100_000 * m,
            "train_images": 1437,
            "val_images": 360,
            "global_batch": 64,
            "devices": 1,
            "steps": 440,
        },
        "environment": {"device": "a processor", "threads": 1, "torch": "2.15.0", "commit": "abc123"},
    }
    (folder / "result.json").write_text(json.dumps(result))
    speeds = "".join(f"0,{step},{images_per_second + offset}\n" for step, offset in enumerate((-90, 0, 5)))
    (folder / "metrics.csv").write_text("epoch,step,images_per_second\n" + speeds)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(typed)))


def write_unfinished(folder: Path) -> None:
    """A run that was killed."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("[]")
    (folder / "train.log").write_text("")


def write_multirun(folder: Path, *words: str) -> None:
    """Hydra's record of the command."""
    hydra = {"hydra": {"overrides": {"task": list(words)}, "job": {"name": "train"}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(hydra))


def newton_sweep(folder: Path) -> Path:
    """T = 1, 5, 20 and two exact inverses, two seeds each; one run is missing."""
    study = {
        "title": "Iterations & inverses",
        "source": "a table",
        "paper": [
            {"when": {"model.attention.newton_iters": 20, "model.attention.inverse": "newton"}, "top1": 79.3},
        ],
    }
    number = 0
    for inverse, steps, top1 in (("newton", 1, 70.0), ("newton", 5, 80.0), ("newton", 20, 90.0), ("svd", 20, 91.0)):
        for seed in (0, 1):
            write_run(
                folder / str(number),
                top1 + seed,
                seed,
                study,
                residual=10.0**-steps,
                images_per_second=400.0 - steps,
                model__attention__newton_iters=steps,
                model__attention__inverse=inverse,
            )
            number += 1
    write_unfinished(folder / str(number))
    write_multirun(folder, "experiments=newton_iterations", "model/attention=soft,soft_norm", "data.root=a b")
    return folder
