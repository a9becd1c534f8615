"""Find leukocytes in a frame: whatever the stain has made much darker and bluer than a red cell.

Romanowsky dyes stain chromatin so that it absorbs green far more than blue, while haemoglobin and
eosin absorb blue about as much as green. Twice the optical density in green less that in blue is
therefore 4 to 7 times higher over a nucleus than over a red cell in all of our cameras and stains,
and a threshold relative to the red cells of the same frame holds without colour calibration.

The red cell (about 7.2 um across) is also the ruler: sizes are in red cell diameters.
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image, Located

RED_CELL_UM = 7.2
"""Mean diameter of a red cell on a dried smear, micrometres."""

_WORK_SIDE = 400
"""Frames are searched at this many pixels of their longer side: a red cell still spans 15 or more."""
_TINTED = 0.08
"""Optical density in green from which a pixel is not background."""
_LEAST_RADIUS = 4.0
"""A red cell's least radius at working scale, pixels; below it only specks are left."""
_MOST_RADIUS = 0.15
"""A red cell's greatest radius as a share of the frame's longer side: a wider disc is a clump."""
_DISC_SHARE = 0.87
"""Diameter of the widest disc in a red cell's silhouette over the cell's labelled size, median over
the training fields of three laboratories (0.86, 0.87, 0.87)."""
_LOBE = 0.25
"""A lobe of this area (squared red cell diameters) may lie `max_gap` away from the others."""
_CROP_UNITS = 2.8
"""Side of a picture that shows one cell and no red cell, in red cell diameters."""
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


@dataclass(frozen=True, slots=True)
class Ruler:
    """What one frame tells of its red cells."""

    level: float
    """Median nuclear stain of all that is not background: mostly red cells."""
    diameter_px: float | None
    """Diameter of a red cell in frame pixels; None where the frame shows no free round one."""


def measure_red_cells(dye: Stain) -> Ruler:
    """Measure the red cells of a frame by the widest discs that fit into their silhouette.

    That holds for red cells which touch, overlap or are cut by the border. The diameter is the
    area-weighted 60th percentile over all discs, so that specks and slivers count for little.
    """
    tinted = dye.green > _TINTED
    if not tinted.any():
        return Ruler(0.0, None)
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
        rows = slice(max(nucleus.top - reach, 0), nucleus.bottom + reach)
        peaks[rows, max(nucleus.left - reach, 0) : nucleus.right + reach] = False
    if not peaks.any():
        return Ruler(level, None)
    radii = np.sort(depth[peaks])
    weight = np.cumsum(radii**2)
    radius = radii[np.searchsorted(weight, 0.6 * weight[-1])]
    return Ruler(level, float(2 * radius / _DISC_SHARE / dye.scale))


def _fill_pallor(body: NDArray[np.uint8]) -> None:
    """Fill, in place, the pale centres of red cells: round holes; gaps between cells have points."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - body, connectivity=4)
    _, _, w, h, area = stats.T
    pallor = (area > 0.6 * w * h) & (w < 1.7 * h) & (h < 1.7 * w) & (np.maximum(w, h) < 0.2 * max(body.shape))
    pallor[0] = False
    body[pallor[labels]] = 1


class Locator:
    """Boxes of leukocytes, frame by frame.

    Args:
        um_per_px: size of a frame pixel on the smear; None measures it by the red cells.
        steady: True where all frames come from one microscope: the ruler is then the median over the
            last frames. False measures each image by itself.
        min_nucleus: least stained area of a leukocyte, in squared red cell diameters (a platelet
            has 0.05 to 0.2, the nucleus of a neutrophil 0.5 to 0.8).
        max_nucleus: longest side of one cell's nucleus in red cell diameters; lobes farther apart
            belong to different cells.
        max_gap: widest gap between two lobes of one nucleus, in red cell diameters; less for
            small ones.
    """

    def __init__(
        self,
        um_per_px: float | None = None,
        *,
        steady: bool = False,
        min_nucleus: float = 0.25,
        max_nucleus: float = 2.2,
        max_gap: float = 0.5,
    ) -> None:
        self._fixed_px = RED_CELL_UM / um_per_px if um_per_px else None
        self._min_nucleus = min_nucleus
        self._max_nucleus = max_nucleus
        self._max_gap = max_gap
        self._steady = steady
        self._measured: deque[float] = deque(maxlen=31)

    @property
    def red_cell_px(self) -> float | None:
        """Diameter of a red cell in frame pixels; None before one was seen."""
        if self._fixed_px is not None:
            return self._fixed_px
        return float(np.median(self._measured)) if self._measured else None

    def locate(self, image: Image) -> list[Located]:
        """Return the leukocytes in an RGB `image`, left to right.

        A box covers the cell with its cytoplasm as far as can be told from the nucleus.
        """
        dye = stain(image)
        ruler = measure_red_cells(dye)
        if not self._steady:
            self._measured.clear()
        if ruler.diameter_px is not None:
            self._measured.append(ruler.diameter_px)
        nuclei = _nuclei(dye, ruler.level)
        if not nuclei:
            return []
        red_cell = self.red_cell_px
        # With no red cell ever seen, the picture is a tight crop of one cell, about two red cells wide.
        unit = red_cell * dye.scale if red_cell else min(dye.nuclear.shape) / _CROP_UNITS
        groups = self._join_lobes(nuclei, unit)
        cells = [_cell(g, unit, dye) for g in groups if g.area >= self._min_nucleus * unit**2]
        return sorted(cells, key=lambda cell: cell.box.x)

    def _join_lobes(self, nuclei: list["_Nucleus"], unit: float) -> list["_Nucleus"]:
        """Merge the lobes of one nucleus, nearest first."""
        groups = list(nuclei)
        while True:
            pairs = [
                (a.gap(b), i, j)
                for i, a in enumerate(groups)
                for j, b in enumerate(groups[:i])
                if a.gap(b) <= self._reach(min(a.area, b.area), unit)
                and a.join(b).side <= self._max_nucleus * unit
            ]
            if not pairs:
                return groups
            _, i, j = min(pairs)
            groups[j] = groups[j].join(groups[i])
            del groups[i]

    def _reach(self, area: int, unit: float) -> float:
        """Return how far (working pixels) a patch may lie from a nucleus and be part of it.

        A small patch must lie close: it may be a platelet beside the cell.
        """
        return self._max_gap * unit * min(1.0, area / (_LOBE * unit**2))


@dataclass(frozen=True, slots=True)
class _Nucleus:
    """A stained patch, or several joined: bounds and area in working pixels."""

    left: int
    top: int
    right: int
    bottom: int
    area: int

    @property
    def side(self) -> int:
        return max(self.right - self.left, self.bottom - self.top)

    def gap(self, other: "_Nucleus") -> float:
        dx = max(self.left, other.left) - min(self.right, other.right)
        dy = max(self.top, other.top) - min(self.bottom, other.bottom)
        return float(np.hypot(max(dx, 0), max(dy, 0)))

    def join(self, other: "_Nucleus") -> "_Nucleus":
        return _Nucleus(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.area + other.area,
        )


def _floor(red_level: float) -> float:
    """Return the least nuclear stain of a nucleus among red cells of level `red_level`."""
    return max(_MIN_CONTRAST, 2 * red_level)


def _nuclei(dye: Stain, red_level: float) -> list[_Nucleus]:
    """Return the patches stained clearly more than red cells and not much less than the darkest nucleus."""
    floor = _floor(red_level)
    candidates = dye.nuclear[dye.nuclear > floor]
    if candidates.size == 0:
        return []
    threshold = max(floor, 0.45 * float(np.percentile(candidates, 90)))
    mask = (dye.nuclear > threshold).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    return [
        _Nucleus(int(x), int(y), int(x + w), int(y + h), int(area))
        for x, y, w, h, area in stats[1:count]
        if area >= 8
    ]


def _cell(nucleus: _Nucleus, unit: float, dye: Stain) -> Located:
    """Return the box of the whole cell round `nucleus`, in frame pixels, clipped to the frame.

    Cytoplasm reaches about a sixth of a red cell beyond the nucleus on either side; no leukocyte is
    smaller than 1.25 red cells, and none is much longer than wide.
    """
    margin, least = 0.3 * unit, 1.25 * unit
    longest = nucleus.side + margin
    width = max(nucleus.right - nucleus.left + margin, 0.8 * longest, least)
    height = max(nucleus.bottom - nucleus.top + margin, 0.8 * longest, least)
    x = (nucleus.left + nucleus.right) / 2
    y = (nucleus.top + nucleus.bottom) / 2
    rows, columns = dye.nuclear.shape
    left, top = max(0.0, x - width / 2), max(0.0, y - height / 2)
    right, bottom = min(float(columns), x + width / 2), min(float(rows), y + height / 2)
    box = Box(left / dye.scale, top / dye.scale, (right - left) / dye.scale, (bottom - top) / dye.scale)
    inside = nucleus.left > 0 and nucleus.top > 0 and nucleus.right < columns and nucleus.bottom < rows
    return Located(box, inside)
