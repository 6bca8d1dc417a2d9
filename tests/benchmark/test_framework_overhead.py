"""The table of what the framework costs, for a command whose figures are known."""

import csv
import sys

import pytest

from soft.benchmark.framework_overhead import measure_framework
from soft.benchmark.reporter import Reporter

# Takes the place of src/train.py: the three trainings begin 3, 4 and 9 seconds after their command.
COMMAND = """
import json, pathlib, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
if "--cfg" not in sys.argv:
    rounds = int(words["+callbacks.bare_loop.rounds"])
    output = pathlib.Path(words["+callbacks.bare_loop.output"].strip("'"))
    output.parent.mkdir(parents=True)
    delay = {"start_0": 3, "start_1": 4, "start_2": 9}.get(output.parent.name, 0)
    figures = {"framework": [0.3, 0.4, 0.9][:rounds], "bare": [0.2, 0.1, 0.6][:rounds]}
    output.write_text(json.dumps({"began": time.time() + delay, **figures}))
"""


def test_medians_and_the_ratio_of_rounds(tmp_path):
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    measure_framework(Reporter(tmp_path, {}), [sys.executable, str(script)], [], rounds=3, steps=2, starts=3)
    with (tmp_path / "overhead.csv").open() as file:
        measured = {row["what"]: float(row["measured"]) for row in csv.DictReader(file)}
    answer, begins = measured.pop("--cfg job (s)"), measured.pop("first training step begins (s)")
    assert answer > 0
    assert begins > 4  # the fake one adds the time that its process takes to start
    assert measured == pytest.approx(
        {"training step (ms)": 400, "step of a bare PyTorch loop (ms)": 200, "overhead of a step (%)": 50}
    )


def test_a_failed_command_is_named(tmp_path):
    script = tmp_path / "command.py"
    script.write_text("import sys; sys.exit('no such thing')")
    with pytest.raises(RuntimeError, match=r"command\.py --cfg job ended with exit code 1: no such thing"):
        measure_framework(Reporter(tmp_path, {}), [sys.executable, str(script)], [], rounds=1, steps=1, starts=1)
