"""Offline W&B runs, read back by W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path

LEET = (str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json")


def read_run(path: Path) -> tuple[dict[str, object], dict[str, object], list[dict[str, object]]]:
    """Of a `.wandb` file: W&B's digest with `config` and `summary`, the record with the run's names, all records."""
    digest = json.loads(subprocess.run([*LEET, "--summary", path], capture_output=True, text=True, check=True).stdout)
    lines = subprocess.run([*LEET, path], capture_output=True, text=True, check=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    return digest, run, records


def logged(records: list[dict[str, object]], name: str) -> list[float]:
    """What was logged under `name`, in order."""
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    return [item[name] for item in items if name in item]
