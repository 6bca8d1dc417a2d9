"""The confusion matrix as a picture that can be read, also for a thousand classes."""

from matplotlib.figure import Figure

from soft.analysis.class_tables import Confusion, reduced
from soft.data.classes import short_name
from soft.drawing import drawable

MAX_SHOWN = 30  # classes; of more, those of the most frequent confusions are shown
_LONGEST = 22  # characters of a name


def draw_confusion(matrix: Confusion) -> Figure:
    """Draw how the images of each class were answered: the colour is their share, the number their count."""
    shown = reduced(matrix, MAX_SHOWN)
    shares = shown.counts / shown.images.clip(min=1)[:, None]
    rows, columns = shown.counts.shape
    figure = Figure(figsize=(3 + 0.34 * columns, 2.6 + 0.3 * rows), dpi=150, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(rows):
        for column in range(columns):
            if count := shown.counts[row, column]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=6)
    axes.set_xticks(range(columns), map(_label, shown.columns), rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(rows), map(_label, shown.rows), fontsize=7, parse_math=False)
    axes.set(xlabel="answer", ylabel="class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    title = "images by class and answer"
    if len(matrix.columns) > len(shown.columns):
        title += f": {len(shown.columns)} of {len(matrix.columns):,} classes, with the most frequent confusions"
    axes.set_title(title, fontsize="small", wrap=True)
    figure.colorbar(image, label="share of the class's images").outline.set_visible(False)
    return figure


def _label(name: str) -> str:
    name = drawable(short_name(name))
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
