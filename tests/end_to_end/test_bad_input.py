"""A user's mistake ends in one or two sentences that say what to change, without a traceback and with exit code 2."""

import pytest

from tests.end_to_end.command import run, run_here
from tests.invoke import invoke
from tests.marks import slow

CASES = {
    "unknown model": (["model=soft_mediun"], ["model=soft_mediun", "did you mean soft_medium", "soft_tiny"]),
    "unknown attention": (["model/attention=sofd"], ["model/attention=sofd", "did you mean soft"]),
    "unknown group": (["mode=soft_tiny"], ["mode is not a setting", "model"]),
    "unknown key": (["optimizer.lrr=1e-3"], ["optimizer.lrr is not a setting", "optimizer.lr"]),
    "key of another group": (["epochs=3"], ["epochs is not a setting", "schedule.epochs"]),
    "unknown key, added": (["+ema.deacy=0"], ["ema.deacy is not a setting", "did you mean ema.decay"]),
    "unknown argument of the Trainer": (["+trainer.acelerator=cpu"], ["did you mean trainer.accelerator"]),
    "a dot for a slash": (["model.attention=softmax"], ["type model/attention=softmax"]),
    "a group within another": (["data.augment=none"], ["data.augment=none", "type augment=none"]),
    "a value for a group of settings": (["ema=0"], ["ema=0", "ema.NAME=VALUE"]),
    "a number for a group": (["data=4"], ["data=4 is not known", "digits"]),
    "negative seed": (["seed=-1"], ["seed=-1", "at least 0"]),
    "removed group": (["~trainer"], ["train needs trainer", "~trainer", "cpu_ddp"]),
    "no group": (["data=null"], ["train needs data", "data=null", "digits"]),
    "nothing added": (["logger={}"], ["logger={} changes nothing", "logger=none"]),
    "unknown option of Hydra": (["--foo"], ["--foo", "key=value"]),
    "a blank in a value": (["hydra.run.dir=my", "run"], ["'hydra.run.dir=my run'"]),
    "no such config folder": (["--config-dir=nowhere"], ["--config-dir=nowhere is not a folder"]),
    "no such metric": (["callbacks.checkpoint.monitor=val/topp1"], ["val/topp1", "did you mean val/top1"]),
    "wrong direction": (
        ["callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=max"],
        ["callbacks.checkpoint.mode=max contradicts val/loss"],
    ),
    "negative epochs": (["trainer.max_epochs=-3"], ["trainer.max_epochs=-3", "at least 1"]),
    "unknown strategy": (["trainer.strategy=foo"], ["trainer.strategy='foo'", "ddp"]),
    "unknown profiler": (["trainer.profiler=foo"], ["trainer.profiler='foo'", "simple"]),
    "refused by a class": (["callbacks.checkpoint.save_top_k=-7"], ["callbacks.checkpoint.save_top_k=-7", "-1"]),
    "unknown model in a sweep": (["-m", "model=soft_pico,soft_tinny"], ["model=soft_tinny", "soft_tiny"]),
    "unknown study": (["experiments=landmark"], ["experiments=landmark", "did you mean landmarks"]),
    "unknown scale": (["experiments=landmarks", "scale=lab"], ["scale=lab", "laptop, paper"]),
    "two studies": (["-m", "experiments=landmarks,sampling"], ["experiments=landmarks,sampling", "a sweep for each"]),
    "a study that trains nothing": (["experiments=sequence_length"], ["python src/benchmark.py"]),
    "a study and a search": (["experiments=landmarks", "hparams_search=optuna"], ["leave one of them out"]),
    "no jobs": (["-m", "seed=0,1", "hydra.launcher.jobs=0"], ["hydra.launcher.jobs=0", "at least 1"]),
    "wrong type": (["schedule.epochs=many"], ["schedule.epochs=many", "a number"]),
    "not an override": (["schedule.epochs 3=x"], ["key=value"]),
    "no iterations": (["model.attention.newton_iters=0"], ["newton_iters=0", "at least 1"]),
    "not a square": (["model.attention.num_landmarks=10"], ["num_landmarks=10", "9 and 16"]),
    "more landmarks than tokens": (["model.attention.num_landmarks=25"], ["num_landmarks=25", "4x4", "at most 16"]),
    "unknown sampling": (["model.attention.sampling=max"], ["sampling='max'", "conv, avgpool, random, first"]),
    "unknown inverse": (["model.attention.inverse=lu"], ["inverse='lu'", "newton, cholesky, svd"]),
    "negative rate": (["optimizer.lr=-1"], ["optimizer.lr=-1", "at least"]),
    "warm-up too long": (["schedule.warmup_epochs=90"], ["schedule.warmup_epochs=90", "schedule.epochs=20"]),
    "batch that does not divide": (["trainer=cpu_ddp", "data.batch_size=63"], ["data.batch_size=63", "62, 64"]),
    "batch above the data": (["data.batch_size=2048"], ["data.batch_size=2048", "1437"]),
    "odd mixup batch": (["augment.mixup=0.8", "data.batch_size=63"], ["63", "even"]),
    "more processes than cores": (["trainer=cpu", "trainer.devices=4096"], ["trainer.devices=4096", "cpu_ddp"]),
    "missing checkpoint": (["resume=nowhere.ckpt"], ["resume=nowhere.ckpt", "not a file"]),
    "unknown compiler": (["trainer.compile=lu"], ["trainer.compile='lu'", "max-autotune", "inductor"]),
    "wandb mode": (["logger=wandb", "logger.wandb.mode=ofline"], ["ofline", "offline"]),
    "missing data root": (["data=imagenet", "data.root=nowhere"], ["data.root=nowhere", "$IMAGENET_ROOT"]),
}


@pytest.mark.parametrize(("arguments", "texts"), CASES.values(), ids=CASES)
def test_message(arguments, texts, tmp_path):
    _check(invoke("train.py", *arguments, cwd=tmp_path), texts)


# Files of the user's own, by their paths in the folder that --config-dir names.
OWN = {
    "experiments/whole.yaml": "# @package _global_\nseed: 1\n",
    "experiments/typo.yaml": "# @package _global_\nloss: {label_smoothing: 0.2}\n",
    "experiments/study.yaml": (
        "# @package _global_\ndefaults: [/study, _self_]\n"
        "study: {name: mine, title: Mine, scales: {laptop: {sede: [0, 1]}}}\n"
    ),
    "trainer/lab.yaml": "defaults: [auto, _self_]\naccelerator: cpu\n",
    "trainer/typo.yaml": "defaults: [auto, _self_]\nacelerator: cpu\n",
}
OF_OWN_FILES = {
    "another mistake": (["experiments=whole", "data.pairz=3"], ["data.pairz is not a setting"]),
    "the name of one's own": (["experiments=whol"], ["did you mean whole", "landmarks"]),
    "a key in the file": (["experiments=typo"], ["loss.label_smoothing is not a setting"]),
    "a key in a study": (["-m", "experiments=study"], ["sede is not a setting; did you mean seed?"]),
    "an argument of the Trainer": (["trainer=typo"], ["did you mean trainer.accelerator"]),
}


OF_OWN_FILES_SLOW = ("the name of one's own", "an argument of the Trainer")


@pytest.mark.parametrize("case", [slow(name) if name in OF_OWN_FILES_SLOW else name for name in OF_OWN_FILES])
def test_message_about_files_of_one_s_own(case, tmp_path):
    arguments, texts = OF_OWN_FILES[case]
    for name, text in OWN.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    _check(invoke("train.py", "--config-dir=mine", *arguments, cwd=tmp_path), texts)


BENCHMARK = {
    "unknown part": (["parts=[modell]"], ["parts='modell'", "attention, model, loader, overhead"]),
    "unknown size": (["benchmark=fast"], ["benchmark=fast", "full, gpu_check, quick"]),
    "model as a group": (["model=soft_tiny"], ["model=soft_tiny", "model.names"]),
}


@pytest.mark.parametrize(("arguments", "texts"), BENCHMARK.values(), ids=BENCHMARK)
def test_benchmark_message(arguments, texts, tmp_path):
    _check(invoke("benchmark.py", *arguments, cwd=tmp_path), texts)


def _check(done, texts):
    assert done.returncode == 2, done
    message = done.stderr.strip()
    assert "Traceback" not in message
    assert message.startswith("ERROR: ")
    assert len(message.splitlines()) == 1, message
    for text in texts:
        assert text in message, message


def _tree(tmp_path, *folders):
    for folder in folders:
        (tmp_path / "data" / folder).mkdir(parents=True)
        if folder.count("/"):
            from PIL import Image

            Image.new("RGB", (32, 32)).save(tmp_path / "data" / folder / "1.JPEG")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("folders", "texts"),
    [
        (["."], ["data.root", "empty"]),
        (["train/a", "train/b"], ["val"]),
        (["train/a", "train/b", "val/a", "val/c"], ["b", "c"]),
    ],
    ids=["empty", "no validation", "classes differ"],
)
def test_broken_imagenet_tree(folders, texts, tmp_path):
    root = _tree(tmp_path, *folders)
    _check(invoke("train.py", "data=imagenet", f"data.root={root}", cwd=tmp_path), texts)


def test_v100_recipe_on_a_machine_without_them(tmp_path):
    import torch

    if torch.cuda.device_count() >= 8:
        pytest.skip("this machine has eight GPUs")
    done = run_here("train.py", "model=soft_medium", "trainer=v100_ddp", cwd=tmp_path, expect=2)
    _check(done, ["trainer=v100_ddp", "8 V100 GPUs", "trainer=auto"])
    if "sm_70" not in (torch._C._cuda_getArchFlags() or ""):
        assert "torch==2.14.*" in done.stderr
        assert "cu126" in done.stderr


def test_traceback_on_request(tmp_path):
    done = run("train.py", "model.attention.newton_iters=0", cwd=tmp_path, expect=1, HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert "newton_iters=0" in done.stderr


def test_report_of_nothing(tmp_path):
    _check(invoke("report.py", "sweep=nowhere", cwd=tmp_path), ["sweep=nowhere", "no finished run"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "texts"),
    [(None, ["no checkpoint file"]), (b"not a checkpoint", ["bad.ckpt", "damaged"])],
    ids=["missing", "damaged"],
)
def test_evaluate_refuses(content, texts, tmp_path):
    if content:
        (tmp_path / "bad.ckpt").write_bytes(content)
    _check(invoke("evaluate.py", "checkpoint=bad.ckpt", cwd=tmp_path), texts)


@pytest.mark.parametrize("data", ["listops_short", "recall"])
def test_verify_data_of_a_task(data, tmp_path):
    _check(invoke("verify_data.py", f"data={data}", cwd=tmp_path), [f"data={data}", "no set of image files"])
