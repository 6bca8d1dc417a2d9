"""Dashes on a square canvas: which places are taken, and how dashes and dots look in grey.

Places are (y, x) in pixels from the upper left corner, so the first pixel's centre is (0.5, 0.5).
"""

import numpy as np

BORDER = 1.0  # pixels that dashes keep from the border
CELLS = 2  # per pixel, each way, of the record of taken places
SPACING = 0.5  # pixels between the points by which a dash is looked up


class Canvas:
    """Record of the places that are nearer than `clearance` to a dash.

    Args:
        size: height and width in pixels.
        clearance: in pixels.
    """

    def __init__(self, size: int, clearance: float):
        self.size = size
        self.clearance = clearance
        self.centres = _centres(size, CELLS)
        self.blocked = np.zeros((CELLS * size, CELLS * size), dtype=bool)

    def copy(self) -> "Canvas":
        other = Canvas.__new__(Canvas)
        other.__dict__.update(self.__dict__, blocked=self.blocked.copy())
        return other

    def block(self, dash: np.ndarray) -> None:
        """Mark the surroundings of `dash`, (2, 2), as taken."""
        low = np.maximum(CELLS * (dash.min(0) - self.clearance), 0).astype(int)
        high = (CELLS * (dash.max(0) + self.clearance) + 1).astype(int)
        window = (slice(low[0], high[0]), slice(low[1], high[1]))  # no cell outside is near
        self.blocked[window] |= squared_distances(self.centres[window], dash) < self.clearance**2

    def is_free(self, dashes: np.ndarray, others: list[np.ndarray] = ()) -> np.ndarray:
        """Return which of `dashes`, (n, 2, 2), lie inside and clear of what is taken and of the dashes in `others`."""
        steps = int(np.ceil(np.linalg.norm(dashes[0, 1] - dashes[0, 0]) / SPACING))
        parts = np.arange(steps + 1)[:, None] / steps
        points = dashes[:, None, 0] * (1 - parts) + dashes[:, None, 1] * parts
        inside = ((points >= BORDER) & (points <= self.size - BORDER)).all((1, 2))
        cells = np.clip(points * CELLS, 0, CELLS * self.size - 1).astype(int)
        free = inside & ~self.blocked[cells[..., 0], cells[..., 1]].any(1)
        for other in others:
            free &= (squared_distances(points, other) >= self.clearance**2).all(1)
        return free


def squared_distances(points: np.ndarray, dashes: np.ndarray) -> np.ndarray:
    """Return squared distances of `points`, (..., 2), from the lines between the two ends of `dashes`, (..., 2, 2)."""
    start, along = dashes[..., 0, :], dashes[..., 1, :] - dashes[..., 0, :]
    y, x = points[..., 0] - start[..., 0], points[..., 1] - start[..., 1]
    part = (y * along[..., 0] + x * along[..., 1]) / (along * along).sum(-1)
    part = np.minimum(np.maximum(part, 0), 1)
    return (y - part * along[..., 0]) ** 2 + (x - part * along[..., 1]) ** 2


def draw(size: int, dashes: np.ndarray, thickness: float, dots: np.ndarray, radius: float) -> np.ndarray:
    """Return grey values (size, size) from 0 to 255 of dashes (n, 2, 2) and round dots (k, 2), with smooth edges.

    A pixel is as bright as the share of its width, measured across the line, that the line covers. In the middle of a
    line thinner than a pixel it is brighter, by at most a quarter of 255.
    """
    centres = _centres(size, 1)
    away = np.sqrt(squared_distances(centres[..., None, :], dashes).min(-1))
    lines = np.clip(0.5 + thickness / 2 - away, 0, min(1, thickness + 0.25))
    discs = np.clip(0.5 + radius - np.linalg.norm(centres[..., None, :] - dots, axis=-1).min(-1), 0, 1)
    return np.rint(255 * np.maximum(lines, discs)).astype(np.int64)


def _centres(size: int, cells: int) -> np.ndarray:
    places = (np.arange(cells * size) + 0.5) / cells
    return np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1)
