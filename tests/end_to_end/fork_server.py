"""Starts commands as processes of their own that find the large libraries loaded, which takes most of a start.

A server imports `LIBRARIES`, none of our own code, and forks for each command. The fork has its own session,
environment, working folder and files for its output, and runs the script as `__main__`: signals, exit codes, and what
other processes see of it are those of a command that was typed. Only a start by Python itself can show what a library
reads from the environment while it is imported, and that a command imports what it uses.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = ("hydra.main", "hydra.utils", "lightning.pytorch", "matplotlib", "rich.progress", "timm", "torchmetrics")


class Forked:
    """A command that runs, with the interface of `subprocess.Popen` as far as the tests need it."""

    def __init__(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], out: Path, err: Path | None = None):
        """Start `python WORDS` in `cwd`; its output is added to the files `out` and `err`, by default the same."""
        self.args = list(words)
        files = [str(Path(path).absolute()) for path in (out, err or out)]
        for path in files:
            Path(path).touch()  # a signal may end the fork before it opens them
        self.pid = _ask({"words": self.args, "cwd": str(cwd), "env": dict(env), "files": files})
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, that of a signal negative; None while the process runs."""
        if self.returncode is None:
            self.returncode = _ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float = 540) -> int:
        """Return the exit code once there is one."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send the process a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL to the process and those of its group that are left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


@functools.cache
def _server() -> subprocess.Popen:
    """Return this process's server, which ends with it."""
    from tests.end_to_end.command import environment

    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    atexit.register(server.__exit__, None, None, None)  # closes its questions, and waits for its end
    return server


def _ask(question: dict[str, object]) -> int | None:
    server = _server()
    print(json.dumps(question), file=server.stdin, flush=True)
    return json.loads(server.stdout.readline())


def _serve() -> dict[str, object] | None:
    """Answer questions until there are no more; return, in the fork alone, the one that asks for a command.

    There are no more when the tests have ended, however they did; commands that still run are killed then.
    """
    running: set[int] = set()
    with os.fdopen(os.dup(0), "r") as questions, os.fdopen(os.dup(1), "w") as answers:
        for line in questions:
            question = json.loads(line)
            if "pid" in question:
                pid, status = os.waitpid(question["pid"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
                running.discard(pid)
            else:
                ready, has_session = os.pipe()
                answer = os.fork()
                if not answer:
                    os.setsid()
                    os.close(ready)
                    os.close(has_session)
                    return question
                running.add(answer)
                os.close(has_session)
                os.read(ready, 1)  # ends when the fork has closed it, so that signals to its group arrive
                os.close(ready)
            print(json.dumps(answer), file=answers, flush=True)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return None


def _become(words: Sequence[str], cwd: str, env: Mapping[str, str], files: Sequence[str]) -> None:
    """Make this process the command."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    script, *_ = words
    sys.argv[:], sys.path[0] = words, str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    # W&B makes a folder of the process that imports it, and timm imports W&B.
    sys.modules["wandb"] = None
    for name in LIBRARIES:
        importlib.import_module(name)
    del sys.modules["wandb"]
    if (wanted := _serve()) is None:
        os._exit(0)  # what it loaded needs no tidying up
    _become(**wanted)
