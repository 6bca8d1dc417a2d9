"""Images that a run logs, which do not change its training."""

import pytest
import torch

from soft.errors import SettingError
from soft.monitoring.logged_images import LoggedImages
from soft.monitoring.wandb_logger import create_wandb_logger
from soft.runs.signals import Stopped
from tests.runs.test_exact_resume import stop_at
from tests.training.small_run import Hook, outcome, train, unequal
from tests.wandb_runs import logged, read_run

RANDOM = {"sampling": "random", "drop_path_rate": 0.1, "drop_rate": 0.1}  # everything random in the model


def offline(folder):
    return [create_wandb_logger(folder, mode="offline")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return outcome(train(tmp_path_factory.mktemp("plain"), epochs=4, model=RANDOM))


def images():
    return LoggedImages(first_batch=3, attention_images=2, attention_every=3)


@pytest.mark.slow
def test_a_run_with_images_is_the_same_to_the_bit(plain, tmp_path):
    drawn = train(tmp_path, images(), epochs=4, model=RANDOM, more_loggers=offline)
    assert list(unequal(outcome(drawn), plain)) == []
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    _, _, records = read_run(path)
    assert logged(records, "images/first_batch.count") == [1]
    assert logged(records, "images/attention_maps.count") == [2, 2, 2]  # after epochs 1, 3 and 4
    assert len(list(path.parent.glob("files/media/images/images/attention_maps_*.png"))) == 6


@pytest.mark.slow
def test_so_is_one_that_was_stopped(plain, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, images(), stop_at("on_train_batch_end", 9), epochs=4, model=RANDOM, more_loggers=offline)
    resumed = train(tmp_path, images(), epochs=4, model=RANDOM, more_loggers=offline)
    assert list(unequal(outcome(resumed), plain)) == []
    parts = [read_run(path)[2] for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))]
    assert [logged(records, "images/first_batch.count") for records in parts] == [[1], []]
    assert [logged(records, "images/attention_maps.count") for records in parts] == [[2], [2, 2]]


def test_the_first_batch_is_what_the_step_was_given(tmp_path, monkeypatch):
    shown, seen = [], []
    monkeypatch.setattr(
        "soft.monitoring.logged_images.make_grid", lambda images, **_: shown.append(images) or torch.zeros(3, 4, 4)
    )

    def keep(trainer, module, batch):
        seen.append(module._batches[-1][0][:3].clone())

    train(tmp_path, LoggedImages(3, attention_images=0), Hook("on_train_batch_end", 1, keep), more_loggers=offline)
    mean, std = 0.5, 0.3
    torch.testing.assert_close(shown, [(seen[0] * std + mean).clamp(0, 1)])


def test_nothing_is_drawn_for_loggers_without_images(tmp_path, monkeypatch):
    monkeypatch.setattr("soft.monitoring.logged_images.log_images", lambda *_: pytest.fail("drawn"))
    train(tmp_path / "csv", images(), epochs=1)
    train(
        tmp_path / "disabled",
        images(),
        epochs=1,
        more_loggers=lambda folder: [create_wandb_logger(folder, mode="disabled")],
    )


def test_settings():
    with pytest.raises(SettingError, match=r"callbacks\.logged_images\.attention_every=0"):
        LoggedImages(attention_every=0)
