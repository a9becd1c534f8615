"""What chromatin holds back tells a leukocyte from the red cells and the platelets round it.

A strange stain makes red cells as dark as a nucleus that the locator's network knows, and a large platelet
seen near looks like a small leukocyte seen from afar. Both are compared with the frame's own red cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from edge.ruler import TINTED, Stain, stain

_LEAST_CONTRAST = 0.1
"""Share of its brightest green light that the darkest spot of a box holds back, at least: bare glass has no
cell, whatever the network makes of it. Of 5,100 boxes in labelled images none has less than 0.26."""
_LEAST_STAIN, _DENSEST = 1.8, 90
"""How many times as dense as the red cells round it this percentile of a leukocyte's box is, at least, in
green light or in what chromatin holds back most. Where a strange stain makes the red cells as dark as a
nucleus that the network knows, it takes some for leukocytes: of 36 in Raabin's validation fields, taken by a
network that never saw that laboratory, 29 have less. Of 863 leukocytes in training fields none has."""
_LEAST_AROUND = 0.05
"""Share of a picture that red cells must take before they can be compared with."""
_NEAR = 0.5
"""Share of a picture's shorter side from which a box leaves too little around it to compare with."""
_LEAST_CORE = 2.0
"""How many times as dense as the red cells the darkest place of a nucleus' width is in a leukocyte, at least.
Of what a network that never saw Raabin's laboratory doubts there in training fields, 32 of 49 false cells are
paler, and none of 46 leukocytes. Of 22 leukocytes that the shipped one doubts in training fields two are,
both of BCCD."""
_LEAST_TINT = 1.06
"""Over its density in green, the darkest of a box has so many times as much of what chromatin holds back most
(`edge.ruler.Stain.nuclear`) as the red cells, at least: red cells that lie over each other are as dark as
a nucleus, but keep their colour. Those that are doubted on slides of validation cells have 1.05 at most.
Of 3,537 leukocytes in a third of the labelled fields, as they are and darker, brighter, redder, bluer,
blurred and noisy, six have less, and none of the 59 of them that are doubted."""
_PINKEST = 1.6
"""With so much of it in the red cells it tells nothing: they hold back little blue, or blue is burnt out."""
_NUCLEUS, _DARKEST, _EVEN, _DARK, _LEAST_RED = 0.25, 95, 0.78, 4.0, 0.25
_BLACK = 6.5
_STEEPEST, _STEEP = 97, 11.0
"""What a nucleus has and a platelet lacks: a disc as wide as this share of a red cell that is dark all over,
at least so much (0..1) of this percentile of its box, and so many times as dense as the red cells (these at
least so much: shade is not one). Blur makes granules even, but spoils edges too: over a red cell's width the
steepest (a percentile) of a sharp picture climb so many times that density. Of PBC's training images 28 of 35
erythroblasts that this decides on have all that, 31 of 37 at 0.6 of their scale; of 44 platelets none. What
is `_BLACK` times as dense may be coarse, not even: of 129 doubted platelets none is over 5.4 times so."""
_DARKEST_RED = 0.45
"""Density in green (natural logarithm) up to which the median of a box may be a red cell's: those of PBC's
fields have 0.26 to 0.31, of leukocytes the ones that their nucleus fills 0.6 and more."""
_LARGEST_RED = 1.45
"""Longer side of a box that may be a red cell's, in red cell diameters; of leukocytes' it is 1.5 and more,
but of the smallest lymphocytes'."""
_SMOOTH = 0.017
"""Over a red cell's width: what is finer is noise."""


def stained(view: Image, edges: NDArray[np.float32]) -> list[bool]:
    """Tell which boxes hold something dark, and, where red cells lie around, darker than these.

    Args:
        view: RGB, shape (height, width, 3).
        edges: left, top, right, bottom of each box in its pixels, shape (n, 4).
    """
    if not len(edges):
        return []
    light = np.asarray(cv2.blur(view[..., 1], (5, 5)), np.uint8)
    dye = stain(view)
    around = dye.green > TINTED
    parts = [
        (slice(top, bottom + 1), slice(left, right + 1))
        for left, top, right, bottom in np.maximum(edges, 0).astype(int)
    ]
    for part in parts:
        around[part] = False
    maps = (dye.green, dye.nuclear) if around.mean() >= _LEAST_AROUND else ()
    limits = [_LEAST_STAIN * float(np.median(density[around])) for density in maps]

    def is_dark(part: tuple[slice, slice]) -> bool:
        inside = light[part]
        if not inside.size or 1 - inside.min() / max(inside.max(), 1) < _LEAST_CONTRAST:
            return False
        near = max(inside.shape) >= _NEAR * min(light.shape)
        densest = [float(np.percentile(density[part], _DENSEST)) for density in maps]
        return near or not maps or any(d >= limit for d, limit in zip(densest, limits, strict=True))

    return [is_dark(part) for part in parts]


class Core(IntEnum):
    """What the darkest place of a box, as wide as a nucleus, is like."""

    PALE = 0
    """Not much denser than red cells, or of their colour; or there is no place so wide."""
    DARK = 1
    """Denser, and of chromatin's colour, as in every leukocyte; a clump of platelets may be so too."""
    NUCLEUS = 2
    """Far denser, even and sharp."""


@dataclass(frozen=True, slots=True)
class RedCells:
    """What a box is compared with."""

    density: float
    """In green, natural logarithm; 0 where nothing is tinted."""
    tint: float
    """What chromatin holds back most, over that."""


def all_tinted(dye: Stain) -> RedCells:
    """Return what is tinted in a frame (`edge.ruler.stain`): mostly red cells."""
    return _tinted(dye, dye.green > TINTED)


def beside(dye: Stain, cells: Sequence[Box], unit: float) -> RedCells | None:
    """Return what is tinted in a frame beside `cells`; None where less than one red cell lies there.

    Args:
        dye: of the frame (`edge.ruler.stain`).
        cells: boxes in its pixels.
        unit: diameter of a red cell, pixels of the frame.
    """
    tinted = dye.green > TINTED
    for box in cells:
        tinted[_part(dye, box)] = False
    enough = tinted.sum() >= math.pi / 4 * (dye.scale * unit) ** 2
    return _tinted(dye, tinted) if enough else None


def among(dye: Stain, cells: Sequence[Box], unit: float) -> RedCells | None:
    """Return what is tinted in the middle one by density of those `cells` that are as small as red cells.

    On a nearly bare slide all red cells of a frame may have been taken for leukocytes. None where none is so
    small, or the middle one darker than red cells are, as a lymphocyte alone on bare glass.

    Args:
        dye: of the frame (`edge.ruler.stain`).
        cells: boxes in its pixels.
        unit: diameter of a red cell, pixels of the frame.
    """
    parts = [_part(dye, box) for box in cells if box.side < _LARGEST_RED * unit]
    inside = [Stain(dye.nuclear[part], dye.green[part], dye.scale) for part in parts]
    found = sorted((all_tinted(part) for part in inside), key=lambda red_cells: red_cells.density)
    if not found:
        return None
    middle = found[(len(found) - 1) // 2]
    return middle if 0 < middle.density < _DARKEST_RED else None


def _part(dye: Stain, box: Box) -> tuple[slice, slice]:
    """Return the rows and columns of a box in the maps of `dye`."""
    left, top, right, bottom = (
        int(dye.scale * edge) for edge in (box.x, box.y, box.x + box.width, box.y + box.height)
    )
    return slice(max(0, top), bottom + 1), slice(max(0, left), right + 1)


def _tinted(dye: Stain, where: NDArray[np.bool_]) -> RedCells:
    density = float(np.median(dye.green[where])) if where.any() else 0.0
    return RedCells(density, float(np.median(dye.nuclear[where])) / density if density else 0.0)


def cores(image: Image, boxes: Sequence[Box], unit: float, red_cells: RedCells) -> list[Core]:
    """Tell what the darkest place of each box is like beside the red cells.

    Args:
        image: RGB, shape (height, width, 3).
        boxes: in its pixels.
        unit: diameter of a red cell, pixels.
        red_cells: of this image, or of others of the same slide.
    """
    if not boxes:
        return []
    white = np.percentile(image[::4, ::4].reshape(-1, 3), 95, axis=0).astype(np.float32)
    return [_core(image, box, unit, red_cells, white) for box in boxes]


def _core(image: Image, box: Box, unit: float, red_cells: RedCells, white: NDArray[np.float32]) -> Core:
    rows = slice(int(box.y), int(box.y + box.height) + 1)
    light = image[rows, int(box.x) : int(box.x + box.width) + 1].astype(np.float32)
    wide = max(1, round(_NUCLEUS * unit)) | 1
    if min(light.shape[:2]) < wide:
        return Core.PALE
    absorbed = -np.log((light + 4) / (white + 4))
    density, blue = (cv2.GaussianBlur(absorbed[..., i], (0, 0), _SMOOTH * unit) for i in (1, 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide))
    core, nuclear = (float(cv2.erode(dye, disc).max()) for dye in (density, 2 * density - blue))
    if core < _LEAST_CORE * red_cells.density:
        return Core.PALE
    if red_cells.tint < _PINKEST and nuclear < _LEAST_TINT * red_cells.tint * core:
        return Core.PALE
    times = core / max(_LEAST_RED, red_cells.density)
    even = core >= _EVEN * float(np.percentile(density, _DARKEST))
    if times < (_DARK if even else _BLACK):
        return Core.DARK
    along, across = (cv2.Sobel(density, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1)))
    sharp = float(np.percentile(np.hypot(along, across), _STEEPEST)) * unit >= _STEEP * core
    return Core.NUCLEUS if sharp else Core.DARK
