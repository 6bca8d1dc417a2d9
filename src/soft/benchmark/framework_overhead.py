"""What the framework costs: the time of `--cfg job`, the start of training, and a step compared with a bare loop's."""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from soft.benchmark.reporter import Reporter
from soft.benchmark.timing import ratio

MAX_ANSWER, MAX_START, MAX_OVERHEAD = 1.5, 12, 5  # seconds, seconds, percent


def measure_framework(
    reporter: Reporter, command: Sequence[str], words: Sequence[str], rounds: int, steps: int, starts: int
) -> None:
    """Run `command`, the training entry point, as a user does, and time it.

    Args:
        words: further words after the command.
        rounds, steps: see `BareLoop`.
        starts: number of times that each start is timed; the median counts.
    """
    answers, begins = [], []
    for number in range(starts):
        reporter.step(f"overhead: start {number + 1} of {starts}")
        start = time.time()
        _run([*command, *words, "--cfg", "job"])
        answers.append(time.time() - start)
        begins.append(_train(reporter.folder / f"start_{number}", command, words, 0, steps)["first_step"])
    reporter.step(f"overhead: {rounds} x {steps} steps with the framework and without")
    steps_measured = _train(reporter.folder / "steps", command, words, rounds, steps)
    framework, bare = (steps_measured[name] for name in ("framework", "bare"))
    overhead = 100 * (ratio(framework, bare) - 1)
    rows = [
        {"what": "--cfg job (s)", "measured": median(answers)},
        {"what": "first training step begins (s)", "measured": median(begins)},
        {"what": "training step (ms)", "measured": 1000 * median(framework)},
        {"what": "step of a bare PyTorch loop (ms)", "measured": 1000 * median(bare)},
        {"what": "overhead of a step (%)", "measured": overhead},
    ]
    reporter.table("overhead", " ".join(["Framework: python src/train.py", *words]), rows)
    reporter.target("--cfg job, seconds", rows[0]["measured"], maximum=MAX_ANSWER)
    reporter.target("first training step begins, seconds after the command", rows[1]["measured"], maximum=MAX_START)
    reporter.target("training step, % over a bare PyTorch loop", overhead, maximum=MAX_OVERHEAD)


def _train(folder: Path, command: Sequence[str], words: Sequence[str], rounds: int, steps: int) -> dict:
    """Run once with `BareLoop` in `folder`; return its figures and the seconds from the command to the first step."""
    figures = folder / "bare_loop.json"
    loop = {"_target_": "soft.benchmark.bare_loop.BareLoop", "output": f"'{figures}'", "rounds": rounds, "steps": steps}
    start = time.time()
    _run(
        [
            *command,
            "schedule.epochs=100000",  # until the callback stops it
            "trainer.check_val_every_n_epoch=100000",
            f"hydra.run.dir='{folder}'",
            *words,
            *(f"+callbacks.bare_loop.{key}={value}" for key, value in loop.items()),
        ]
    )
    result = json.loads(figures.read_text())
    figures.unlink()
    return result | {"first_step": result["began"] - start}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}: {done.stderr}")
