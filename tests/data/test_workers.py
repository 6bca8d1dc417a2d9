"""What becomes of a loader process is told as what it is, with real processes that really end so."""

import gc
import os
import resource
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from soft.data.workers import explained_worker_errors
from soft.errors import SettingError


class Failing(Dataset):
    """Its fourth item does what it was given."""

    def __init__(self, fail):
        self.fail = fail

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 3:
            self.fail()
        return torch.zeros(4096)


def ended_by(number: int):
    return lambda: (os.kill(os.getpid(), number), time.sleep(60))


def run_out_of_memory():
    bytearray(2**62)


def refuse():
    raise SettingError("This image (data.root) is no image. Replace it.")


def allow_small_files_only():
    """Shared memory is files: the next batch finds no room for one, as on a full /dev/shm."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.fixture(autouse=True)
def as_in_a_fresh_process(monkeypatch):
    """At the end of a fit, which other tests do, Lightning takes away the handler that PyTorch sets once a process."""
    monkeypatch.setattr(torch.utils.data._utils.signal_handling, "_SIGCHLD_handler_set", False)
    yield
    # A loader that an error still holds would end its processes in the middle of the next test, and wait for them.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    gc.collect()


DEATHS = {
    "out of memory": (
        ended_by(signal.SIGKILL),
        "was killed by the system (SIGKILL), most likely because memory ran out. ",
    ),
    "bus error": (ended_by(signal.SIGBUS), "had a bus error (SIGBUS), most likely because shared memory was full."),
    "crash": (ended_by(signal.SIGSEGV), "was ended by a signal: Segmentation fault."),
    "exit": (lambda: os._exit(7), "ended with exit code 7 and no word. data.num_workers=0 shows where."),
    "no memory": (run_out_of_memory, "A loader process could get no more memory. Lower data.num_workers"),
    "shared memory": (allow_small_files_only, "A loader process found shared memory full. Batches go through /dev/shm"),
}


@pytest.mark.parametrize(("fail", "message"), DEATHS.values(), ids=DEATHS)
def test_a_death_is_told_as_what_it_was(fail, message):
    with pytest.raises(SettingError) as caught, explained_worker_errors():
        list(DataLoader(Failing(fail), num_workers=2))

    assert message in caught.value.as_settings()
    assert "\n" not in caught.value.as_settings()
    assert "checkpoint" not in caught.value.as_settings()


def test_the_newest_checkpoint_is_named(tmp_path):
    for age, name in ((50, "old.ckpt"), (10, "new.ckpt"), (30, "middle.ckpt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)

    with pytest.raises(SettingError) as caught, explained_worker_errors(tmp_path):
        list(DataLoader(Failing(lambda: os._exit(7)), num_workers=1))
    assert str(caught.value).endswith(
        f"The last checkpoint is {tmp_path}/new.ckpt; resume={tmp_path}/new.ckpt goes on from it."
    )


def test_a_sentence_from_a_worker_stays_one():
    with pytest.raises(SettingError) as caught, explained_worker_errors():
        list(DataLoader(Failing(refuse), num_workers=1))

    assert str(caught.value) == "This image (data.root) is no image. Replace it."


@pytest.mark.parametrize("error", [RuntimeError("shared memory"), OSError("MemoryError"), SettingError("seed=-1")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, explained_worker_errors():
        raise error
    assert caught.value is error


def test_a_connection_that_breaks_before_the_death_is_known_waits_for_it():
    """Now and then the training process notices first that nobody answers."""
    loader = iter(DataLoader(Failing(lambda: (time.sleep(0.3), os._exit(7))), num_workers=2))

    def break_off() -> None:
        next(loader)
        raise ConnectionResetError("Connection reset by peer")

    with pytest.raises(SettingError, match=r"ended with exit code 7"), explained_worker_errors():
        break_off()


@pytest.mark.parametrize(
    ("fail", "message"),
    [(lambda: os._exit(7), "ended with exit code 7"), (ended_by(signal.SIGKILL), r"killed by the system \(SIGKILL\)")],
    ids=["exit", "out of memory"],
)
def test_a_death_that_pytorch_does_not_hear_of_is_told(fail, message, monkeypatch):
    """On a busy machine SIGCHLD comes late, or while something else is being cleaned up."""
    monkeypatch.setattr(torch.utils.data._utils.signal_handling, "_SIGCHLD_handler_set", True)
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    loader = DataLoader(Failing(fail), num_workers=1)
    fetch = _MultiProcessingDataLoaderIter._try_get_data

    def break_off(iterator, *args, **kwargs):
        if iterator._rcvd_idx == 2:  # the worker is asked for the fourth item, which ends it
            raise ConnectionResetError("Connection reset by peer")
        return fetch(iterator, *args, **kwargs)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", break_off)
    try:
        with pytest.raises(SettingError, match=message), explained_worker_errors():
            list(loader)
    finally:
        signal.signal(signal.SIGCHLD, before)
