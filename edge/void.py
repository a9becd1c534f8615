"""What is no picture in an image file: the black corners of a turned one, bars, the rim of an eyepiece.

Black is the densest of stains to whoever looks for nuclei, and a shape that no cell has to a network.
"""

import cv2
import numpy as np

from edge.cells import Image

_BLACK = 16
"""Greatest value (0..255) of each colour. Stained cells in usual light are brighter."""
_MOST_EMPTY = 0.95
"""Share of an image: where more is black, it is for the quality gates, which refuse it as under-exposed."""
_LIT = 60
"""Where the light of what is left is no brighter, the image is dark rather than empty."""
_SEAM = 2
"""Pixels around what is empty in which it is mixed with the picture."""
_OUTER = 2
"""Mark of what is black up to the border."""
_SAMPLED = 1000
"""Places across the longer side, about, at which the light is measured."""
_BRIGHT = 95
"""Percentile of what is left that stands for bare glass."""


def filled(image: Image) -> Image:
    """Return an image with the light of bare glass where black reaches in from its border.

    It is the same where there is no such place, and where too little light is left to tell.

    Args:
        image: RGB, shape (height, width, 3).
    """
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if rim.max(axis=1).min() > _BLACK:
        return image
    # JPEG leaves specks in what is black.
    brightest = cv2.max(cv2.max(image[..., 0], image[..., 1]), image[..., 2])
    black = (cv2.medianBlur(brightest, 5) <= _BLACK).astype(np.uint8)
    around = cv2.copyMakeBorder(black, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), _OUTER)
    outer = (around[1:-1, 1:-1] == _OUTER).astype(np.uint8)
    share = outer.mean()
    if share == 0 or share > _MOST_EMPTY:
        return image
    empty = cv2.dilate(outer, np.ones((2 * _SEAM + 1, 2 * _SEAM + 1), np.uint8)) > 0
    every = max(1, max(image.shape) // _SAMPLED)
    shown = image[::every, ::every][~empty[::every, ::every]]
    if not len(shown):
        return image
    glass = np.percentile(shown, _BRIGHT, axis=0)
    if glass.max() < _LIT:
        return image
    whole = image.copy()
    whole[empty] = glass.astype(np.uint8)
    return whole
