"""Ends training runs at random moments, resumes them with resume=auto, and compares them with undisturbed runs.

`python -m tests.end_to_end.kill_runs --kills 20 --seed 0` does so in all `SETTINGS`, on one process and on two. The
tests in test_resume.py kill each run once.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.end_to_end import command
from tests.end_to_end.command import read_csv
from tests.end_to_end.fork_server import Forked

# Enough steps to be ended within them, and a few checkpoints.
SHORT = (
    *("data=fake", "data.train_images=96", "data.val_images=41", "data.batch_size=8", "data.val_batch_size=16"),
    *("schedule.epochs=4", "schedule.warmup_epochs=1", "trainer.log_every_n_steps=1"),
    *("callbacks.last_checkpoint.every_n_train_steps=3", "~callbacks.curves"),
)
MIXED = ("augment=paper", "model.drop_path_rate=0.1")  # mixup, CutMix, random erasing, dropout
SETTINGS = {
    "one process": ("trainer=cpu", "ema.decay=0"),
    "one process, workers, mixup, average, accumulation": (
        *("trainer=cpu", "trainer.max_batch_per_device=4", "data.num_workers=2", *MIXED),
    ),
    "two processes, average": ("trainer=cpu_ddp",),
    "two processes, compiled, checkpointed, average": (
        *("trainer=cpu_ddp", "trainer.compile=aot_eager", "model.grad_checkpointing=true"),
    ),
    "two processes, workers, mixup": ("trainer=cpu_ddp", "data.num_workers=1", "ema.decay=0", *MIXED),
}

PATIENCE = 900  # seconds to wait for a run that takes a few seconds, in case the machine is busy


def start(*arguments: str, cwd: Path, **variables: str) -> Forked:
    """Start `python src/train.py` in a process group of its own, with its output in `cwd`/log."""
    return command.start("train.py", *arguments, cwd=cwd, out=cwd / "log", **variables)


def run_folder(cwd: Path) -> Path | None:
    """Return the folder of the only run below `cwd`; None if there is none yet."""
    folders = [path.parent for path in cwd.glob("outputs/*/*/run.json")]
    assert len(folders) <= 1, f"resume=auto began another run: {folders}"
    return folders[0] if folders else None


def wait_for_training(process: Forked, cwd: Path, since: float) -> bool:
    """Wait for the first row that is logged after the moment `since`; return False if the run ends before."""
    size = None
    while process.poll() is None:
        folder = run_folder(cwd)
        metrics = folder / "metrics.csv" if folder else None
        # A resumed run first shortens the file, so the first change of the file is not yet a row.
        if metrics and metrics.exists() and (state := metrics.stat()).st_mtime > since:
            if size not in (None, state.st_size):
                return True
            size = state.st_size
        time.sleep(0.02)
    return False


def end(process: Forked, number: int, group: bool = True) -> int:
    """Send a signal to all processes of a run, or to the first alone; return the exit code of the first."""
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process.wait(timeout=PATIENCE)


def kill_until_done(
    arguments: tuple[str, ...], cwd: Path, kills: int, moments: random.Random, number: int = signal.SIGKILL
) -> int:
    """End a run up to `kills` times at random moments and resume it each time; return how often it was ended."""
    done = 0
    span = 6.0  # approximate seconds of training
    while True:
        began = time.time()
        process = start(*arguments, "resume=auto", cwd=cwd)
        if done < kills:
            # One run in six is ended in the seconds before its training.
            early = moments.random() < 1 / 6
            hit = True if early else wait_for_training(process, cwd, began)
            time.sleep(moments.uniform(0, span / (kills - done + 1)))
            if hit and process.poll() is None:
                code = end(process, number)
                expected = {-signal.SIGKILL} if number == signal.SIGKILL else {128 + number, -number, 0}
                assert code in expected, f"exit code {code}\n{(cwd / 'log').read_text()}"
                with_suppressed_kill(process)
                done += 1
                if code != 0:
                    continue
        assert process.wait(timeout=PATIENCE) == 0, (cwd / "log").read_text()
        return done


def with_suppressed_kill(process: Forked) -> None:
    """Kill the processes that are left of the group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def differences(first: Path, second: Path) -> Iterator[str]:
    """Yield the differences between the folders of two finished runs; times are not compared."""
    ours, theirs = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (first, second))
    for part in ("state_dict", "optimizer_states", "position", "train_loss", "skipped_steps"):
        yield from _unequal(ours[part], theirs[part], part)
    rows, others = (
        [{key: value for key, value in row.items() if key != "images_per_second"} for row in read_csv(folder)]
        for folder in (first, second)
    )
    if rows != others:
        yield "metrics.csv: " + "; ".join(str((a, b)) for a, b in zip(rows, others, strict=False) if a != b)[:2000]
        yield f"{len(rows)} and {len(others)} rows"
    results = [json.loads((folder / "result.json").read_text()) for folder in (first, second)]
    if results[0]["top1"] != results[1]["top1"]:
        yield f"top1 {results[0]['top1']} and {results[1]['top1']}"


def _unequal(a: object, b: object, name: str) -> Iterator[str]:
    if isinstance(a, torch.Tensor):
        if not torch.equal(a, b):
            yield f"{name} differs by up to {(a - b).abs().max()}"
    elif isinstance(a, dict):
        if a.keys() != b.keys():
            yield f"{name} has other keys"
        for key in a.keys() & b.keys():
            yield from _unequal(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, list):
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _unequal(x, y, f"{name}.{number}")
    elif a != b:
        yield f"{name}: {a} and {b}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="in all settings together")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--signal", default="SIGKILL", help="SIGKILL, SIGTERM or SIGINT")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill_runs_"))
    failed = total = 0
    for number, (name, arguments) in enumerate(SETTINGS.items()):
        kills = options.kills // len(SETTINGS) + (number < options.kills % len(SETTINGS))
        alone, killed = folder / f"{number}_alone", folder / f"{number}_killed"
        for cwd in (alone, killed):
            cwd.mkdir()
        assert start(*SHORT, *arguments, cwd=alone).wait() == 0, (alone / "log").read_text()
        done = kill_until_done((*SHORT, *arguments), killed, kills, moments, signal.Signals[options.signal])
        found = list(differences(run_folder(alone), run_folder(killed)))
        total += done
        failed += bool(found)
        print(f"{name}: ended {done} times, {'equal' if not found else 'DIFFERS'}", *found, sep="\n  ", flush=True)
    if failed:
        sys.exit(f"{failed} of {len(SETTINGS)} differ, see {folder}")
    print(f"{total} times {options.signal}: every run ended as it would have without, to the bit")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
