"""A run that is stopped anywhere and resumed ends with the weights, optimiser and metrics of an undisturbed run."""

import csv
import io
import signal

import pytest

from soft.runs.signals import SIGNALS, Stopped
from tests.marks import slow
from tests.training.small_run import Hook, outcome, train, unequal


def stop_at(name: str, count: int) -> Hook:
    def act(trainer, module, batch):
        SIGNALS.received = signal.SIGTERM

    return Hook(name, count, act)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return outcome(train(tmp_path_factory.mktemp("whole"), resume=None))


# An epoch has three steps of two batches each, and then two batches of validation.
MOMENTS = {
    "first step": ("on_train_batch_start", 1),
    "between accumulated batches": ("on_train_batch_start", 2),
    "second step": ("on_train_batch_start", 3),
    "last step": ("on_train_batch_end", 5),
    "before the validation": ("on_train_batch_end", 6),
    "in the validation": ("on_validation_batch_end", 1),
    "at its last batch": ("on_validation_batch_end", 2),
    "end of an epoch": ("on_train_epoch_end", 1),
    "start of an epoch": ("on_train_epoch_start", 2),
    "second epoch": ("on_train_batch_end", 8),
    "last validation": ("on_validation_batch_start", 3),
}


FAST = ("between accumulated batches", "before the validation", "in the validation", "second epoch")


@pytest.mark.parametrize("moment", [moment if moment in FAST else slow(moment) for moment in MOMENTS])
def test_stopped_and_resumed(moment, whole, tmp_path):
    with pytest.raises(Stopped) as stopped:
        train(tmp_path, stop_at(*MOMENTS[moment]))
    assert stopped.value.code == 143
    assert list(unequal(outcome(train(tmp_path)), whole)) == []


@pytest.mark.parametrize("hook", ["on_train_end", "on_fit_end"])
def test_stopped_at_the_end_it_finishes(hook, whole, tmp_path):
    assert list(unequal(outcome(train(tmp_path, stop_at(hook, 1))), whole)) == []


def test_stopped_at_every_step(whole, tmp_path):
    """The run is stopped after every step and goes on in a new session."""
    for _ in range(30):
        try:
            ended = train(tmp_path, stop_at("on_train_batch_end", 2))
            break
        except Stopped:
            continue
    assert list(unequal(outcome(ended), whole)) == []


# The third epoch is the last one, and no multiple of two.
RARELY = {"epochs": 3, "trainer_options": {"check_val_every_n_epoch": 2}}


@pytest.fixture(scope="module")
def rarely_validated(tmp_path_factory):
    return outcome(train(tmp_path_factory.mktemp("rarely"), resume=None, **RARELY))


def test_the_last_epoch_is_validated_always(rarely_validated):
    rows = list(csv.DictReader(io.StringIO(rarely_validated["metrics"])))
    assert [int(row["step"]) for row in rows if row["val/top1"]] == [5, 8]


RARELY_MOMENTS = {
    "not validated": ("on_train_batch_end", 4),
    "end of the epoch that is not validated": ("on_train_epoch_end", 1),
    "its validation": ("on_validation_batch_end", 1),
    "last epoch begins": ("on_train_epoch_start", 3),
    "last epoch": ("on_train_batch_end", 14),
    "last validation": ("on_validation_batch_end", 3),
}
RARELY_FAST = ("last epoch", "last validation")


@pytest.mark.parametrize("moment", [each if each in RARELY_FAST else slow(each) for each in RARELY_MOMENTS])
def test_stopped_and_resumed_where_validations_are_rare(moment, rarely_validated, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, stop_at(*RARELY_MOMENTS[moment]), **RARELY)
    assert list(unequal(outcome(train(tmp_path, **RARELY)), rarely_validated)) == []
