"""Do what docs/first_ablation.md does, and keep its pictures: `python -m docs.first_ablation`.

The study is read from the page, and its pictures and tables are written into first_ablation/ beside it. Further
settings of the study can be typed, such as hydra.launcher.jobs=1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from soft.data.tasks.recall import ASK, EMPTY, Recall
from tests.docs.pages import ROOT, blocks

PAGE = Path(__file__).with_suffix(".md")
PICTURES = PAGE.with_suffix("")
KEPT = ("table.csv", "top1_num_landmarks.png")


def draw_task() -> Figure:
    """Draw two examples of the task, with the cell that asks and its answer."""
    task = Recall(size=10, grid=6, pairs=8, colours=10)
    colours = plt.colormaps["tab10"].colors
    figure, panels = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
    for index, axes in enumerate(panels):
        tokens, label = task.example(index)
        for row in range(6):
            for column in range(6):
                colour, content = (int(field[row, column]) for field in tokens)
                if colour == EMPTY:
                    continue
                axes.add_patch(plt.Rectangle((column, row), 1, 1, color=colours[colour - 1]))
                text = "?" if content == ASK else str(content - 2)
                axes.text(
                    column + 0.5, row + 0.5, text, ha="center", va="center", size=15, color="white", weight="bold"
                )
        axes.set(xlim=(0, 6), ylim=(6, 0), aspect="equal", title=f"answer: {task.class_names[label]}")
        axes.set_xticks(range(7), [])
        axes.set_yticks(range(7), [])
        axes.grid(alpha=0.4)
        axes.tick_params(length=0)
    return figure


def run(folder: Path, *words: str) -> None:
    """Run src/train.py in a folder, with this code."""
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, str(ROOT / "src" / "train.py"), *words]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, check=True)


def main() -> None:
    """Draw the task, train the first run and the study, and keep what the page shows."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    draw_task().savefig(PICTURES / "task.png", dpi=110)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, "schedule.epochs=5", "hydra.run.dir=run")
        shutil.copy(folder / "run" / "curves.png", PICTURES / "curves.png")
        (study,) = blocks(PAGE, "yaml")
        path = folder / study.title
        path.parent.mkdir(parents=True)
        path.write_text(study.text, encoding="utf-8")
        run(folder, "-m", "--config-dir=mine", "experiments=first", "hydra.sweep.dir=sweep", *sys.argv[1:])
        for kept in KEPT:
            shutil.copy(folder / "sweep" / "report" / kept, PICTURES / kept)


if __name__ == "__main__":
    main()
