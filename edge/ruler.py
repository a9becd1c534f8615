"""The red cells of a frame as its ruler, and its stain as optical density.

Romanowsky dyes stain chromatin so that it absorbs green far more than blue, while haemoglobin and
eosin absorb blue about as much as green. Twice the optical density in green less that in blue is
therefore 4 to 7 times higher over a nucleus than over a red cell in all of our cameras and stains,
and a threshold relative to the red cells of the same frame holds without colour calibration.

The red cell (about 7.2 um across) is also the ruler: sizes are in red cell diameters.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image

RED_CELL_UM = 7.2
"""Mean diameter of a red cell on a dried smear, micrometres."""

_WORK_SIDE = 400
"""Frames are searched at this many pixels of their longer side: a red cell still spans 15 or more."""
TINTED = 0.08
"""Optical density in green from which a pixel is not background."""
_LEAST_RADIUS = 4.0
"""A red cell's least radius at working scale, pixels; below it only specks are left."""
_MOST_RADIUS = 0.15
"""A red cell's greatest radius as a share of the frame's longer side: a wider disc is a clump."""
_DISC_SHARE = 0.87
"""Diameter of the widest disc in a red cell's silhouette over the cell's labelled size, median over
the training fields of three laboratories (0.86, 0.87, 0.87)."""
_PLAIN = 20.0
"""Diameter, pixels at working scale, from which red cells are measured well; smaller ones seem larger."""
_MIN_CONTRAST = 0.4
"""Least nuclear stain (natural optical density); below it a frame holds no stained nucleus."""


@dataclass(frozen=True, slots=True)
class Stain:
    """One frame seen as dye instead of light, at working scale."""

    nuclear: NDArray[np.float32]
    """2 x OD(green) - OD(blue), shape (height, width), natural logarithm; background is about 0."""
    green: NDArray[np.float32]
    """OD(green): all that is not background, shape (height, width)."""
    scale: float
    """Working pixels per frame pixel, at most 1."""


def stain(image: Image) -> Stain:
    """Return the optical densities of `image` against its own background."""
    scale = min(1.0, _WORK_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    small = cv2.GaussianBlur(small, (0, 0), 1.2)
    white = np.percentile(small.reshape(-1, 3), 95, axis=0)
    density = -np.log((small.astype(np.float32) + 4) / (white.astype(np.float32) + 4))
    green, blue = density[..., 1], density[..., 2]
    return Stain(2 * green - blue, green, scale)


def red_cell_px(image: Image) -> float | None:
    """Return the diameter of a red cell in pixels of `image`; None where it shows no free round one.

    Where they are small in it, its middle is looked at more closely.

    Args:
        image: RGB, shape (height, width, 3).
    """
    found = _diameter(dye := stain(image))
    while dye.scale < 1 and (found is None or found * dye.scale < _PLAIN):
        height, width = image.shape[:2]
        image = image[height // 4 : height - height // 4, width // 4 : width - width // 4]
        found = _diameter(dye := stain(image)) or found
    return found


def _diameter(dye: Stain) -> float | None:
    """Measure the red cells of a frame by the widest discs that fit into their silhouette.

    That holds for red cells which touch, overlap or are cut by the border. The diameter is the
    area-weighted 60th percentile over all discs, so that specks and slivers count for little.
    """
    tinted = dye.green > TINTED
    if not tinted.any():
        return None
    body = (dye.green > 0.5 * float(np.median(dye.green[tinted]))).astype(np.uint8)
    level = float(np.median(dye.nuclear[body > 0]))
    _fill_pallor(body)
    stained = (dye.nuclear > _floor(level)).astype(np.uint8)
    body[cv2.dilate(stained, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))) > 0] = 0
    depth = cv2.distanceTransform(body, cv2.DIST_L2, 5)
    peaks = depth >= cv2.dilate(depth, np.ones((11, 11), np.uint8)) - 1e-6
    peaks &= (depth > _LEAST_RADIUS) & (depth < _MOST_RADIUS * max(body.shape))
    for nucleus in _nuclei(dye, level):
        # Cytoplasm is tinted too; it reaches less than half a nucleus beyond the nucleus.
        reach = round(0.4 * nucleus.side)
        left, top = max(round(nucleus.x) - reach, 0), max(round(nucleus.y) - reach, 0)
        right, bottom = round(nucleus.x + nucleus.width), round(nucleus.y + nucleus.height)
        peaks[top : bottom + reach, left : right + reach] = False
    if not peaks.any():
        return None
    radii = np.sort(depth[peaks])
    weight = np.cumsum(radii**2)
    radius = radii[np.searchsorted(weight, 0.6 * weight[-1])]
    return float(2 * radius / _DISC_SHARE / dye.scale)


def _fill_pallor(body: NDArray[np.uint8]) -> None:
    """Fill, in place, the pale centres of red cells: round holes; gaps between cells have points."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - body, connectivity=4)
    _, _, w, h, area = stats.T
    pallor = (area > 0.6 * w * h) & (w < 1.7 * h) & (h < 1.7 * w) & (np.maximum(w, h) < 0.2 * max(body.shape))
    pallor[0] = False
    body[pallor[labels]] = 1


def _floor(red_level: float) -> float:
    """Return the least nuclear stain of a nucleus among red cells of level `red_level`."""
    return max(_MIN_CONTRAST, 2 * red_level)


def _nuclei(dye: Stain, red_level: float) -> list[Box]:
    """Return the patches, in working pixels, that are stained clearly more than red cells.

    And not much less than the darkest nucleus.
    """
    floor = _floor(red_level)
    candidates = dye.nuclear[dye.nuclear > floor]
    if candidates.size == 0:
        return []
    threshold = max(floor, 0.45 * float(np.percentile(candidates, 90)))
    mask = (dye.nuclear > threshold).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    return [Box(int(x), int(y), int(w), int(h)) for x, y, w, h, area in stats[1:count] if area >= 8]
