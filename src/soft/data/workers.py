"""Says what happened to a loader process that died and took the run with it.

PyTorch notices the death wherever the training process is at that moment, even in the middle of an optimiser step, and
raises an error there. The weights are then not those of any step, so the run cannot simply go on.
"""

import os
import re
import shlex
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch.utils.data.dataloader import _BaseDataLoaderIter

from soft.errors import SettingError

SHARED_MEMORY = Path("/dev/shm")
GRACE = 5.0  # seconds that a dying process may take
LIFE = 60.0  # seconds of a worker after SIGTERM
PLACE = "DataLoader worker"
SIGNALLED = re.compile(r"DataLoader worker \(pid (\d+)\) is killed by signal: ([\w ]+)")
EXITED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) exited unexpectedly(?: with exit code:? (-?\d+))?")
# What a worker raises arrives as the text of its traceback.
OURS = re.compile(r"^(?:\w+\.)*SettingError: (.+)\Z", re.MULTILINE | re.DOTALL)


def outlive_sigterm(worker: int) -> None:
    """Let a loader process serve the last step and checkpoint after SIGTERM to the whole process group.

    This is a DataLoader's `worker_init_fn`. The training process ends its workers when it ends; a worker that it does
    not end exits by itself LIFE seconds after the signal.
    """

    def leave_later(*_: object) -> None:
        timer = threading.Timer(LIFE, os._exit, (0,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, leave_later)


@contextmanager
def explained_worker_errors(checkpoints: Path | None = None) -> Iterator[None]:
    """Turn the error that a loader process leaves in the block into one that says what happened and what to do.

    Args:
        checkpoints: the folder whose newest checkpoint is named as the place to go on from.

    Raises:
        SettingError: instead of the error that PyTorch raises; others pass.
    """
    try:
        yield
    except (EOFError, MemoryError, OSError, RuntimeError, SettingError) as error:
        message = describe(error) or describe(_belated(error))
        if message is None:
            raise
        files = sorted(checkpoints.glob("*.ckpt"), key=lambda file: file.stat().st_mtime) if checkpoints else []
        resume = shlex.quote(f"resume={files[-1]}") if files else ""
        way_on = f" The last checkpoint is {files[-1]}; {resume} goes on from it." if files else ""
        raise SettingError(message + way_on) from error


def describe(error: BaseException | None) -> str | None:
    """Return what happened to a loader process, or None if `error` does not come from one."""
    # The first cause comes first, because it knows most.
    text = "\n".join(map(str, reversed(list(_chain(error)))))
    if PLACE not in text:
        return None
    if ours := OURS.search(str(error)):
        return ours[1].strip()
    signalled = SIGNALLED.search(text)
    who, ending = (f"A loader process (pid {signalled[1]})", signalled[2].strip()) if signalled else ("", "")
    if ending == "Bus error":
        return f"{who} had a bus error (SIGBUS), most likely because shared memory was full. {_room_for_batches()}"
    if "shared memory" in text or "</torch_" in text:  # the name of a file there
        return f"A loader process found shared memory full. {_room_for_batches()}"
    if ending == "Killed":
        return (
            f"{who} was killed by the system (SIGKILL), most likely because memory ran out. Lower `data.num_workers` "
            "or `data.batch_size`, or give the job more memory."
        )
    if ending:
        return f"{who} was ended by a signal: {ending}. If it happens again, `data.num_workers`=0 shows where."
    if "MemoryError" in text:
        return "A loader process could get no more memory. Lower `data.num_workers` or `data.batch_size`."
    if exited := EXITED.search(text):
        code = f" with exit code {exited[2]}" if exited[2] else ""
        return f"A loader process (pid {exited[1]}) ended{code} and no word. `data.num_workers`=0 shows where."
    return None


def _belated(error: BaseException) -> BaseException | None:
    """Return what PyTorch says of a dead process, if `error` is only about the connection that broke as it died.

    PyTorch learns of a death by SIGCHLD. On a busy machine the signal may come late, or where the error that PyTorch
    then raises is lost. If `error` comes from a loader, the loader's own processes are therefore asked as well.
    """
    if not isinstance(error, (ConnectionError, EOFError, FileNotFoundError)):
        return None
    workers = _workers(error)
    try:
        if not workers:
            time.sleep(GRACE)
        # The end of a process closes its sentinel before its exit code is there, and `join` waits for that.
        for sentinel in wait([worker.sentinel for worker in workers], timeout=GRACE):
            worker = next(worker for worker in workers if worker.sentinel == sentinel)
            worker.join(GRACE)
            if (code := worker.exitcode) is not None and code < 0:
                return RuntimeError(f"{PLACE} (pid {worker.pid}) is killed by signal: {signal.strsignal(-code)}")
            if code:
                return RuntimeError(f"{PLACE} (pid {worker.pid}) exited unexpectedly with exit code {code}")
    except RuntimeError as death:
        return death
    return None


def _workers(error: BaseException) -> list[BaseProcess]:
    """Return the processes of the loader that raised `error`: PyTorch's iterator holds them."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        iterator = frame.f_locals.get("self")
        if isinstance(iterator, _BaseDataLoaderIter):
            return list(getattr(iterator, "_workers", ()))
    return []


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _room_for_batches() -> str:
    try:
        size = f"{shutil.disk_usage(SHARED_MEMORY).total / 2**20:,.0f} MiB"
    except OSError:
        size = "a size that cannot be read"
    return (
        f"Batches go through {SHARED_MEMORY}, which has {size}: enlarge it (docker run --shm-size=8g, for example), "
        "lower `data.num_workers`, or set `data.num_workers`=0, which uses no shared memory."
    )
