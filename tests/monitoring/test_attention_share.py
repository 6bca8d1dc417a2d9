"""The attention's share of its output: as metrics of a run, and as a sentence of a run and of an evaluation."""

import json
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

from soft.attention import attention_options
from soft.attention.share import attention_share
from soft.errors import SettingError
from soft.monitoring.attention_share import AttentionShare
from soft.monitoring.newton_residual import NewtonResidual
from soft.monitoring.stage_metrics import stage_of
from soft.runs.idle_attention import by_stage, idle_note, show_stages
from soft.runs.result import read_metrics
from soft.runs.signals import Stopped
from tests.invoke import invoke
from tests.marks import slow
from tests.runs.test_exact_resume import stop_at
from tests.training.small_run import Hook, outcome, train, unequal


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return outcome(train(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def monitored(tmp_path_factory):
    """Return the outcome of a run with metrics of the attention, and its first validation batch."""
    batches = []
    keep = Hook("on_validation_batch_end", 1, lambda trainer, module, batch: batches.append(batch[0].clone()))
    trainer = train(tmp_path_factory.mktemp("monitored"), AttentionShare(5), NewtonResidual(5), keep)
    return outcome(trainer), trainer, batches[0]


def test_a_run_is_the_same_to_the_bit_with_and_without(plain, monitored):
    changed = set(unequal(monitored[0], plain))
    assert changed == {".metrics"}


def test_it_is_that_of_the_averaged_weights_on_the_first_validation_images(monitored):
    _, trainer, batch = monitored
    model, found = trainer.lightning_module.evaluated_model.eval(), {}
    assert not any(module._forward_pre_hooks for module in model.modules())

    def record(stage):
        def hook(module, inputs):
            values = attention_share(module, *inputs).mean(), module.kernel_mean(*inputs).mean()
            found.setdefault(stage, []).append(torch.stack(values))

        return hook

    for number, stage in enumerate(model.stages[:3], start=1):
        for block in stage.blocks:
            block.attn.register_forward_pre_hook(record(number))
    with torch.no_grad():
        model(batch[:5])
    series = read_metrics(Path(trainer.loggers[0].log_dir) / "metrics.csv")
    last = {name: values[-1][1] for name, values in series.items()}
    for name, place in (("attention/share", 0), ("attention/kernel_mean", 1)):
        expected = {stage: torch.stack(values).mean(0)[place].item() for stage, values in found.items()}
        assert by_stage(last, name) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("hook", "count"), [slow("on_train_batch_end", 8), ("on_validation_batch_end", 1)])
def test_so_is_a_run_that_was_stopped(hook, count, monitored, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, AttentionShare(5), NewtonResidual(5), stop_at(hook, count))
    resumed = train(tmp_path, AttentionShare(5), NewtonResidual(5))
    assert list(unequal(outcome(resumed), monitored[0])) == []


def test_a_run_from_before_these_metrics_goes_on(monitored, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, stop_at("on_train_batch_end", 8))
    resumed = outcome(train(tmp_path, AttentionShare(5), NewtonResidual(5)))
    assert set(unequal(resumed, monitored[0])) == {".metrics"}
    shares = read_metrics(tmp_path / "metrics.csv")["attention/share_stage1"]
    assert [epoch for epoch, _ in shares] == [2]


@pytest.mark.parametrize(
    ("attention", "images", "names"),
    [
        ("softmax", 5, {"share"}),
        ("nystromformer", 5, {"share"}),
        ("soft_norm", 5, {"share", "kernel_mean"}),
        ("soft_norm", 0, set()),
        ("none", 5, set()),
    ],
)
def test_what_is_logged(attention, images, names, tmp_path, monkeypatch):
    create = timm.create_model

    def other(name, **options):
        known = attention_options(attention)
        kept = {k: v for k, v in options.items() if k not in ("num_landmarks", "newton_iters") or k in known}
        return create(name, attention=attention, **kept)

    monkeypatch.setattr(timm, "create_model", other)
    trainer = train(tmp_path, AttentionShare(images), epochs=1)
    found = {name for name in trainer.callback_metrics if name.startswith("attention/")}
    assert found == {f"attention/{name}_stage{stage}" for name in names for stage in (1, 2, 3)}


def test_a_rank_without_images_takes_part_in_the_sum_and_not_in_the_mean():
    callback, logged = AttentionShare(), {}

    class Module:
        device = torch.device("cpu")

        def log(self, name, value):
            logged[name] = float(value)

    class Trainer:
        strategy = property(lambda self: self)

        def reduce(self, pair, reduce_op):
            return pair + torch.tensor([0.25, 1.0])  # of another rank

    for own, expected in (([], 0.25), ([torch.tensor(0.75)], 0.5)):
        callback._found = {"attention/share_stage1": own}
        callback.on_validation_epoch_end(Trainer(), Module())
        assert logged == {"attention/share_stage1": expected}


def test_the_stage_of_a_module():
    assert stage_of("stages.0.blocks.0.attn") == 1
    assert stage_of("module.stages.12.blocks.0.attn") == 13
    assert stage_of("blocks.5.attn") == 1


def test_settings():
    with pytest.raises(SettingError, match=r"callbacks\.attention_share\.images=-1"):
        AttentionShare(images=-1)


def test_a_share_of_1_percent_in_any_stage_is_enough():
    shares = {f"attention/share_stage{stage}": share for stage, share in ((1, 1e-5), (2, 0.0099), (3, 1e-4))}
    assert "at most 0.99 % of a block's attention output (stage 2)" in idle_note(shares)
    assert "docs/attention.md" in idle_note(shares)
    assert idle_note(shares | {"attention/share_stage3": 0.01}) is None
    assert idle_note({"val/top1": 50.0}) is show_stages({"val/top1": 50.0}) is None


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Train soft_pico with the published start for two epochs on digits; return the folder around and the output."""
    cwd = tmp_path_factory.mktemp("digits")
    words = ("model.attention.landmark_gain=1", "schedule.epochs=2", "schedule.warmup_epochs=0", "trainer=cpu")
    done = invoke("train.py", *words, "output_dir=run", "hydra.run.dir=run", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done


@pytest.mark.slow
def test_a_run_whose_attention_ends_idle_says_so(digits):
    cwd, done = digits
    result = json.loads((cwd / "run" / "result.json").read_text())
    shares = by_stage(result["last"])
    assert list(shares) == [1, 2, 3]
    assert 0 < max(shares.values()) < 0.01
    (note,) = result["notes"]
    assert note == idle_note(result["last"])
    assert f"Note: {note}" in done.stdout
    assert Image.open(cwd / "run" / "curves.png").size == (2250, 600)


@pytest.mark.slow
def test_so_does_an_evaluation_of_its_weights_alone(digits):
    cwd, _ = digits
    state = torch.load(cwd / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    weights = {key.removeprefix("ema.module."): value for key, value in state.items() if key.startswith("ema.module.")}
    torch.save(weights, cwd / "bare.pth")
    words = ("checkpoint=bare.pth", "model=soft_pico", "model.attention.landmark_gain=1", "data=digits", "trainer=cpu")
    words += ("hydra.run.dir=evaluated",)
    done = invoke("evaluate.py", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    result = json.loads((cwd / "evaluated" / "evaluation.json").read_text())
    last = json.loads((cwd / "run" / "result.json").read_text())["last"]
    for name in ("attention/share", "attention/kernel_mean"):
        assert by_stage(result, name) == pytest.approx(by_stage(last, name), rel=1e-4)
    assert idle_note(result) in result["notes"]
    assert "% of the attention output in stages 1 / 2 / 3, mean of P " in done.stdout
    assert f"Note: {idle_note(result)}" in done.stdout
