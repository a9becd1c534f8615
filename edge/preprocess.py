"""From a box in a frame to the square crop that the model sees. Geometry only: arithmetic on the
pixel values (scaling, centring) is part of the model file."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image

CONTEXT = 1.5
"""Side of the crop over the longer side of the box: the whole cell, with some neighbours as a ruler."""
TIGHT = 0.5
"""Longer side of a cell over the image's shorter one, from which the image was cut out round it."""
_AT_BORDER = 0.05
"""Of such a cell, what ends less than this many box sides from the image's border reaches it, or nearly."""
_FADE = 0.06
"""Share of the crop's side in which what is beyond a cell's cut edge becomes bare glass."""
_NOISE, _DARKEST = 1.5, 4.0
"""Of the sharpness: deviation of the bell that smooths the noise, pixels, and light that is added (0..255),
so that what is nearly black counts for no more than it shows."""
_GLASS = 80
"""Percentile of brightness along the border from which it is taken for glass."""


def crop(image: Image, box: Box, size: int) -> Image:
    """Return the square round `box`, `CONTEXT` times its longer side, as (`size`, `size`, 3) RGB.

    Where the square reaches beyond the image, the image's edge is repeated. In an image that was cut tightly
    round the cell that would draw it out into streaks: where the cell reaches the border of such a one, the
    repeated edge soon fades into the light of bare glass.

    Raises:
        ValueError: the whole square lies outside the image.
    """
    side = max(2, round(CONTEXT * box.side))
    x, y = box.centre
    left, top = round(x - side / 2), round(y - side / 2)
    height, width = image.shape[:2]
    if not (-side < left < width and -side < top < height):
        raise ValueError(f"{box} lies outside the image of {width} x {height} pixels")
    inner = image[max(top, 0) : min(top + side, height), max(left, 0) : min(left + side, width)]
    beyond = (max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0))
    padded = cv2.copyMakeBorder(inner, *beyond, cv2.BORDER_REPLICATE)
    shrinks = side > size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    view = np.asarray(cv2.resize(padded, (size, size), interpolation=method), np.uint8)
    gaps = (box.y, height - box.y - box.height, box.x, width - box.x - box.width)
    cut = [
        depth * size / side if gap < _AT_BORDER * box.side else 0
        for depth, gap in zip(beyond, gaps, strict=True)
    ]
    tight = box.side >= TIGHT * min(height, width)
    return _faded(view, cut, _glass(inner)) if tight and any(cut) else view


def _glass(image: Image) -> NDArray[np.float32]:
    """Return the colour of the brightest part of a tight image's border, shape (3,), where it shows glass."""
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(np.float32)
    light = rim.sum(axis=1)
    return np.asarray(np.median(rim[light >= np.percentile(light, _GLASS)], axis=0), np.float32)


def _faded(square: Image, cut: Sequence[float], glass: NDArray[np.float32]) -> Image:
    """Return a square whose outer `cut` rows and columns (top, bottom, left, right) fade into `glass`."""
    top, bottom, left, right = cut
    place = np.arange(len(square))
    rows = np.maximum(top - place, place - (len(square) - 1 - bottom))
    columns = np.maximum(left - place, place - (len(square) - 1 - right))
    away = np.maximum(rows[:, None], columns[None, :])
    kept = np.clip(1 - away / (_FADE * len(square)), 0, 1).astype(np.float32)[..., None]
    return np.asarray(kept * square + (1 - kept) * glass, np.uint8)


def sharpness(crop_image: Image) -> float:
    """Return how sharp a crop is, from 0: some 100 in good focus, a few where it is blurred.

    It is the variance of the Laplacian of the density (the logarithm of the light), times 1e5: the lamp does
    not change it. A camera's noise, which no defocus takes away, is smoothed before.
    """
    grey = cv2.cvtColor(crop_image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    dense = cv2.log(cv2.GaussianBlur(grey, (0, 0), _NOISE) + _DARKEST)
    deviation = cv2.meanStdDev(cv2.Laplacian(dense, cv2.CV_32F))[1].item()
    return 1e5 * float(deviation) ** 2
