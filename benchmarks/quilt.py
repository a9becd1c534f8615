"""One large picture quilted from small ones, along seams of least cost (Efros and Freeman, 2001)."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

_TRIED = 6
"""Patches of which the one that fits its neighbours best is laid."""
_RARE_SHARE = 0.16
"""Share (0..1) of the places that a rare patch may take, while there are any."""
_FEATHER = 5
"""Pixels of both pictures that are kept on either side of a seam, where they fade into each other."""


def turned(image: Image, turn: int) -> Image:
    """Return one of the eight flips and quarter turns (`turn` 0..7)."""
    picture = np.rot90(image, turn % 4)
    return picture[:, ::-1] if turn >= 4 else picture


def quilt(
    patches: Sequence[Image], rare: Sequence[Image], size: tuple[int, int], rng: np.random.Generator
) -> Image:
    """Return a picture made of square patches of one size, flipped and turned.

    Args:
        patches: each is laid in all of its eight turns before one is laid again.
        rare: each is laid once at most.
        size: width and height of the picture, pixels.
        rng: chooses.
    """
    side = len(patches[0])
    lap = side // 3
    step = side - lap
    # One more column than needed: each row starts a little aside, so that the patches form no grid.
    columns, rows = math.ceil(size[0] / step) + 1, math.ceil(size[1] / step)
    canvas = np.zeros((rows * step + lap, (columns + 1) * step + lap, 3), np.float32)
    common: list[Image] = []
    rare = [turned(rare[i], int(rng.integers(8))) for i in rng.permutation(len(rare))]
    for row in range(rows):
        aside = int(rng.integers(step))
        for column in range(columns):
            if len(common) < _TRIED:
                # Views of the patches, hence no memory to speak of.
                turns = [turned(patch, turn) for patch in patches for turn in range(8)]
                common += [turns[i] for i in rng.permutation(len(turns))]
            pool = rare if rare and rng.random() < _RARE_SHARE else common
            place = canvas[row * step :, aside + column * step :][:side, :side]
            known = np.zeros((side, side), bool)
            known[: lap * (row > 0)] = known[:, : lap * (column > 0)] = True
            tried = [patch.astype(np.float32) for patch in pool[:_TRIED]]
            best = int(np.argmin([((patch - place)[known] ** 2).sum() for patch in tried]))
            pool.pop(best)
            cost = ((tried[best] - place) ** 2).sum(axis=2)
            place += _share(cost, lap, row > 0, column > 0)[..., None] * (tried[best] - place)
    return np.ascontiguousarray(canvas[: size[1], step : step + size[0]]).astype(np.uint8)


def _share(cost: Floats, lap: int, above: bool, left: bool) -> Floats:
    """Return the share (0..1) of a patch in each pixel, given what a seam through the pixel costs."""
    share = np.ones_like(cost)
    if left:
        share[:, :lap] *= _beyond_seam(cost[:, :lap])
    if above:
        share[:lap] *= _beyond_seam(cost[:lap].T).T
    return np.asarray(cv2.GaussianBlur(share, (0, 0), 1.2, borderType=cv2.BORDER_REPLICATE))


def _beyond_seam(cost: Floats) -> Mask:
    """Return 1 right of the path of least cost from the first row to the last, else 0."""
    total = cost.astype(np.float64)
    # The feather needs some pixels of both pictures on either side of the seam.
    total[:, :_FEATHER] = total[:, -_FEATHER:] = np.inf
    for row in range(1, len(total)):
        above = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(above[:-2], above[1:-1]), above[2:])
    path = np.empty(len(total), int)
    path[-1] = total[-1].argmin()
    for row in range(len(total) - 2, -1, -1):
        first = max(path[row + 1] - 1, 0)
        path[row] = first + total[row, first : path[row + 1] + 2].argmin()
    return (np.arange(cost.shape[1]) > path[:, None]).astype(np.uint8)
