"""Runs a command in this process, which takes a fraction of the time of a process of its own."""

import contextlib
import importlib
import io
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

SRC = Path(__file__).resolve().parents[1] / "src"


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, and what it wrote to standard output and standard error."""

    returncode: int
    stdout: str
    stderr: str


def invoke(script: str, *words: str, cwd: Path) -> Done:
    """Run `python src/SCRIPT WORDS` in `cwd`, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before, handlers, level, here = list(sys.argv), list(logging.root.handlers), logging.root.level, Path.cwd()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "HYDRA_", "IMAGENET_"))}
    GlobalHydra.instance().clear()
    try:
        os.chdir(cwd)
        sys.argv[:] = [str(SRC / script), *words]
        with (
            mock.patch.dict(os.environ, env, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            importlib.import_module(Path(script).stem).main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            err.write(error.code)
    finally:
        sys.argv[:] = before
        os.chdir(here)
        for handler in [handler for handler in logging.root.handlers if handler not in handlers]:
            handler.close()
            logging.root.removeHandler(handler)
        logging.root.setLevel(level)
        GlobalHydra.instance().clear()
    return Done(code, out.getvalue(), err.getvalue())
