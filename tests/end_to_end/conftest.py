import os
import pickle
import shutil

import pytest
from filelock import FileLock

from tests.end_to_end.command import run_fresh

DIGITS = ("schedule.epochs=2", "schedule.warmup_epochs=0", "trainer.log_every_n_steps=2", "output_dir=run")


@pytest.fixture(scope="session")
def trained_on_digits(tmp_path_factory):
    """Return a folder with `run`, two epochs on the real digits, and the finished process; all workers share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder, finished = folder / "trained_on_digits", folder / "trained_on_digits.pickle"
    with FileLock(f"{folder}.lock"):
        if not finished.exists():
            folder.mkdir(exist_ok=True)
            done = run_fresh("train.py", *DIGITS, "hydra.run.dir=run", cwd=folder)
            finished.write_bytes(pickle.dumps(done))
    return folder, pickle.loads(finished.read_bytes())


@pytest.fixture(scope="module")
def digits(trained_on_digits, tmp_path_factory):
    """Return the module's own copy of the run on the digits, whose name is `run`, and the finished process."""
    shared, done = trained_on_digits
    folder = tmp_path_factory.mktemp("digits") / "run"
    shutil.copytree(shared / "run", folder)
    return folder, done
