"""Made-up folders of sweeps, with figures that the tests know."""

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
    share: float | tuple[float, ...] | None = None,
    **changes: object,
) -> None:
    """Write one finished run.

    Args:
        share: of attention in the output, by stage; None as in runs that did not log it.
        changes: settings with __ for the dot, model__name="soft_tiny".
    """
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
    if share is not None:
        stages = share if isinstance(share, tuple) else (share,) * 3
        result["last"] |= {f"attention/share_stage{stage}": value for stage, value in enumerate(stages, start=1)}
        (folder / "result.json").write_text(json.dumps(result))
    speeds = "".join(f"0,{step},{images_per_second + offset}\n" for step, offset in enumerate((-90, 0, 5)))
    (folder / "metrics.csv").write_text("epoch,step,images_per_second\n" + speeds)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(typed)))


def write_unfinished(folder: Path) -> None:
    """Write a run that was killed."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("[]")
    (folder / "train.log").write_text("")


def write_multirun(folder: Path, *words: str) -> None:
    """Write Hydra's record of the command."""
    hydra = {"hydra": {"overrides": {"task": list(words)}, "job": {"name": "train"}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(hydra))


def newton_sweep(folder: Path) -> Path:
    """Write T = 1, 5, 20 and an exact inverse, two seeds each; one run is missing."""
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


RECALL = {
    "title": "Attention variants on recall",
    "source": "no table",
    "scale": "laptop",
    "scales": {"laptop": {}, "paper": {}},
    "floor": {"model.attention.attention": "none"},
    "ceiling": {"model.attention.attention": "softmax"},
    "gate": {"ceiling_min": 90, "floor_max": 30},
    "solved": 95,
}
VARIANTS = {  # top-1 of seeds 0 to 4
    "softmax": (100.0, 99.8, 99.9, 100.0, 99.7),
    "nystromformer": (99.9, 99.4, 99.9, 100.0, 99.3),
    "soft": (98.0, 96.1, 12.5, 97.4, 95.9),
    "linformer": (82.1, 80.3, 83.5, 81.0, 82.6),
    "none": (11.7, 11.2, 12.0, 11.5, 11.9),
}


def variants_sweep(
    folder: Path, variants: dict[str, tuple[float, ...]] = VARIANTS, share: float | None = 0.4, **study: object
) -> Path:
    """Write attention variants on a task with a floor and a ceiling; entries of `study` are changed as given."""
    study = RECALL | {"reference": {"model.attention.attention": "softmax"}} | study
    number = 0
    for attention, results in variants.items():
        for seed, top1 in enumerate(results):
            shares = None if attention == "none" else share
            options = {"attention": attention}
            write_run(folder / str(number), top1, seed, study, share=shares, model__attention=options)
            number += 1
    return folder


def grid_sweep(folder: Path, **study: object) -> Path:
    """Write m = 1, 4, 16 by T = 2, 20 with three seeds, and a floor and a ceiling that have neither."""
    study = RECALL | {"title": "Landmarks and iterations", "pairs": []} | study
    points = [({"attention": "none"}, 12.0), ({"attention": "softmax"}, 99.0)]
    for m, gain in ((1, 10.0), (4, 40.0), (16, 75.0)):
        for steps, more in ((2, 0.0), (20, 10.0)):
            points.append(({"attention": "soft", "num_landmarks": m, "newton_iters": steps}, gain + more))
    number = 0
    for options, top1 in points:
        for seed in range(3):
            write_run(folder / str(number), top1 + 0.5 * seed, seed, study, model__attention=options)
            number += 1
    return folder
