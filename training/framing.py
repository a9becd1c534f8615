"""What a network sees of a labelled image, and where the one cell lies that it was cut around.

The instrument sees whole fields and measures by their red cells (`edge.localise.Locator`). A labelled
image mostly shows one leukocyte, in the middle, often with no whole red cell at all; so here the nucleus
itself is the ruler. Boxes of both have the same meaning: the cell with its cytoplasm. Some data sets have
whole fields instead, with the cell anywhere in them: there the locator has a say.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image, Located
from edge.localise import Locator
from edge.preprocess import CONTEXT, crop
from edge.ruler import stain
from edge.sightings import one_cell
from edge.void import within_frame

_STAINED = 0.45
"""A nucleus is stained at least this much of the darkest stain in the image's middle."""
_MIDDLE = 0.35
"""Radius of the middle, over the image's shorter side."""
_REACH = 0.35
"""Widest gap to another lobe of the nucleus, over the nucleus' longer side."""
_DRIFT = 0.12
"""A lobe may move the nucleus this much away from the image's middle, over its longer side."""
_LEAST_LOBE = 0.04
"""Area of a lobe over the first one's; less is dust or a platelet."""
_CELL = 1.25
"""Longer side of the cell over its nucleus': the median over lobed and round nuclei."""

_FILLS = 0.95
"""Longer side of a box over the image's shorter one, from which it is of a cell that fills its image, a lobe
of which the locator may take for a cell, or of a field in which no nucleus stands out."""
_IN_FIELD = 0.4
"""The same of a cell, up to which it lies in such a field; the locator finds no larger one there."""
_TOO_LARGE = 1.7
"""A box this many times as long as the cell in it is of more than that cell."""


class Framing(StrEnum):
    """What of an image the network sees."""

    CELL = "cell"
    """The square round the cell, as the instrument cuts it (`edge.preprocess.crop`)."""
    IMAGE = "image"
    """The whole image, resized: what the study does."""


def view(image: Image, box: Box, size: int, framing: Framing) -> Image:
    """Return what the network sees of an image, (`size`, `size`, 3) RGB."""
    if framing is Framing.CELL:
        return crop(image, box, size)
    shrinks = max(image.shape[:2]) > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), np.uint8)


class _Own(threading.local):
    """What each thread has for itself: a locator cannot be shared."""

    locator: Locator | None = None


_own = _Own()


def _locator() -> Locator:
    _own.locator = _own.locator or Locator()
    return _own.locator


def find_cell(image: Image) -> Box:
    """Return the box of the leukocyte that `image` shows, in its middle or, in a field, anywhere.

    It is `single_cell_box`, unless the locator is sure of leukocytes and that box is of none of them, or far
    too large: then it is the one that lies nearest to the middle. In a field the locator need not be sure.
    """
    return measure_cell(image)[0]


def measure_cell(image: Image, known: Box | None = None) -> tuple[Box, float]:
    """Return the box of `find_cell`, and the longer side of that cell's box as the instrument measures it.

    The side, in pixels, is nan where the locator does not find the cell, or the image's border cuts it.
    Where the data set says where the cell lies, both are those of the box that is `known`.
    """
    if known is not None:
        return known, known.side
    shown, corner = within_frame(image)
    located = _locator().locate(shown)
    box = _chosen(located, shown)
    sides = (cell.box.side for cell in located if cell.whole and one_cell(cell.box, box))
    return box.moved(*corner or (0, 0)), next(sides, math.nan)


def _chosen(located: Sequence[Located], image: Image) -> Box:
    box, side = single_cell_box(image), min(image.shape[:2])
    if box.side < _FILLS * side:
        cells = [found.box for found in located if found.whole and found.sure]
    elif all(found.box.side <= _IN_FIELD * side for found in located):
        cells = [found.box for found in located if found.whole]
    else:
        cells = []
    if not cells or any(one_cell(box, cell) and box.side < _TOO_LARGE * cell.side for cell in cells):
        return box
    middle = (image.shape[1] / 2, image.shape[0] / 2)
    return min(cells, key=lambda cell: math.dist(cell.centre, middle))


def single_cell_box(image: Image) -> Box:
    """Return the box of the one cell that `image` was cut around.

    Where nothing is stained, the box is such that its crop is the image.
    """
    dye = stain(image)
    rows, columns = dye.nuclear.shape
    nucleus = _nucleus(dye.nuclear)
    if nucleus is None:
        height, width = image.shape[:2]
        side = min(height, width) / CONTEXT
        return Box((width - side) / 2, (height - side) / 2, side, side)
    margin = (_CELL - 1) * nucleus.side
    longest = nucleus.side + margin
    width = max(nucleus.right - nucleus.left + margin, 0.8 * longest)
    height = max(nucleus.bottom - nucleus.top + margin, 0.8 * longest)
    x, y = nucleus.centre
    left, right = max(x - width / 2, 0), min(x + width / 2, columns)
    top, bottom = max(y - height / 2, 0), min(y + height / 2, rows)
    return Box(left / dye.scale, top / dye.scale, (right - left) / dye.scale, (bottom - top) / dye.scale)


@dataclass(frozen=True, slots=True)
class _Patch:
    """A stained patch, or several: bounds and area in working pixels."""

    left: int
    top: int
    right: int
    bottom: int
    area: int

    @property
    def side(self) -> int:
        return max(self.right - self.left, self.bottom - self.top)

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def gap(self, other: "_Patch") -> float:
        dx = max(self.left, other.left) - min(self.right, other.right)
        dy = max(self.top, other.top) - min(self.bottom, other.bottom)
        return float(np.hypot(max(dx, 0), max(dy, 0)))

    def join(self, other: "_Patch") -> "_Patch":
        return _Patch(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.area + other.area,
        )


def _nucleus(nuclear: NDArray[np.float32]) -> _Patch | None:
    """Return the nucleus: the patch with most stain near the middle, and the lobes beside it."""
    rows, columns = nuclear.shape
    y, x = np.ogrid[:rows, :columns]
    off_middle = ((x - columns / 2) ** 2 + (y - rows / 2) ** 2) / min(rows, columns) ** 2
    middle = nuclear[off_middle < _MIDDLE**2]
    # A long strip, a pixel wide at working scale, has no middle.
    darkest = float(np.percentile(middle, 97)) if middle.size else 0.0
    if darkest <= 0:
        return None
    stained = (nuclear > _STAINED * darkest).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(stained)
    if count < 2:
        return None
    weight = np.maximum(nuclear, 0) * np.exp(-off_middle / (2 * 0.3**2))
    weight_of = np.bincount(labels.ravel(), weight.ravel(), count)
    first = 1 + int(weight_of[1:].argmax())
    patches = [_Patch(int(x), int(y), int(x + w), int(y + h), int(a)) for x, y, w, h, a in stats]
    others = [p for i, p in enumerate(patches) if i not in (0, first)]
    return _with_lobes(patches[first], others, (columns / 2, rows / 2))


def _with_lobes(first: _Patch, others: list[_Patch], middle: tuple[float, float]) -> _Patch:
    """Join the lobes to the `first` one, nearest first."""
    nucleus = first
    lobes = [p for p in others if p.area >= _LEAST_LOBE * first.area]
    while near := [p for p in lobes if _belongs(p, nucleus, first, middle)]:
        nearest = min(near, key=nucleus.gap)
        lobes.remove(nearest)
        nucleus = nucleus.join(nearest)
    return nucleus


def _belongs(lobe: _Patch, nucleus: _Patch, first: _Patch, middle: tuple[float, float]) -> bool:
    # A small patch must lie close: it may be a platelet beside the cell.
    reach = _REACH * nucleus.side * min(1.0, 2 * float(np.sqrt(lobe.area / first.area)))
    drift = _distance(nucleus.join(lobe).centre, middle) - _distance(nucleus.centre, middle)
    return nucleus.gap(lobe) <= reach and drift <= _DRIFT * nucleus.side


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))
