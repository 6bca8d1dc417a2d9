"""What the framework costs: the answer to `--cfg job`, the start of training, and a step beside a bare loop's."""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from soft.benchmark.report import Report
from soft.benchmark.timing import ratio

MOST_ANSWER, MOST_START, MOST_OVERHEAD = 1.5, 12, 5  # seconds, seconds, percent


def measure_overhead(
    report: Report, command: Sequence[str], words: Sequence[str], rounds: int, steps: int, starts: int
) -> None:
    """Runs `command`, the training entry point, as a user does.

    Args:
        words: further ones after the command.
        rounds, steps: see `BareLoop`.
        starts: how often each start is timed; their median counts.
    """
    answers, begins = [], []
    for number in range(starts):
        report.step(f"overhead: start {number + 1} of {starts}")
        start = time.time()
        _run([*command, *words, "--cfg", "job"])
        answers.append(time.time() - start)
        begins.append(_train(report.folder / f"start_{number}", command, words, 0, steps)["first_step"])
    report.step(f"overhead: {rounds} x {steps} steps with the framework and without")
    steps_measured = _train(report.folder / "steps", command, words, rounds, steps)
    framework, bare = (steps_measured[name] for name in ("framework", "bare"))
    overhead = 100 * (ratio(framework, bare) - 1)
    rows = [
        {"what": "--cfg job (s)", "measured": median(answers)},
        {"what": "first training step begins (s)", "measured": median(begins)},
        {"what": "training step (ms)", "measured": 1000 * median(framework)},
        {"what": "step of a bare PyTorch loop (ms)", "measured": 1000 * median(bare)},
        {"what": "overhead of a step (%)", "measured": overhead},
    ]
    report.table("overhead", " ".join(["Framework: python src/train.py", *words]), rows)
    report.target("--cfg job, seconds", rows[0]["measured"], most=MOST_ANSWER)
    report.target("first training step begins, seconds after the command", rows[1]["measured"], most=MOST_START)
    report.target("training step, % over a bare PyTorch loop", overhead, most=MOST_OVERHEAD)


def _train(folder: Path, command: Sequence[str], words: Sequence[str], rounds: int, steps: int) -> dict:
    """One run with `BareLoop`, in `folder`; its figures, and the seconds from the command to the first step."""
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
