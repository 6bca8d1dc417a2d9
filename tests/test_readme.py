"""What the README shows and lists is true."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_map_lists_every_command_and_room():
    tree = README[README.index("## Where things are") :]
    commands = {path.name for path in (ROOT / "src").glob("*.py")}
    rooms = {f"{path.parent.name}/" for path in (ROOT / "src" / "soft").glob("*/__init__.py")}
    assert commands | rooms <= set(re.findall(r"[\w.]+/?", tree))
    listed = set(re.findall(r"^  (\w+\.py)", tree, re.MULTILINE))
    assert listed <= commands | {path.name for path in (ROOT / "src" / "soft").glob("*.py")}


def test_the_lines_for_notebooks_run(tmp_path):
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "soft.fit" in text)
    lines = [line for line in block.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 8
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\{'top1': \d", done.stdout)
    assert (tmp_path / "maps.png").stat().st_size > 10_000
    assert (tmp_path / "outputs" / "first" / "checkpoints" / "best.ckpt").is_file()
