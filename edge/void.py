"""What is no picture in an image file: the corners of a turned one, bars, a frame, the rim of an eyepiece.

Black is the densest of stains to whoever looks for nuclei, and a grey frame is one huge cell to them.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from edge.imagefile import MIN_SIDE_PX

_BLACK = 16
"""Greatest value (0..255) of each colour. Stained cells in usual light are brighter."""
DARK, LEAST_CORNERS = 0.2, 3
"""The same of a rim, over the glass's light, since it is seldom quite black; and how many corners of the
image it takes: a slide's edge, or an objective that is being turned in, comes from one side. Nuclei at the
border have 0.35, but in a camera of strong contrast less."""
_MOST_EMPTY = 0.95
"""Share of an image: where more is black, it is for the quality gates, which refuse it as under-exposed."""
_LIT = 60
"""Where the light of what is left is no brighter, the image is dark rather than empty."""
_SEAM = 2
"""Pixels around what is empty in which it is mixed with the picture."""
_OUTER = 2
"""Mark of what reaches the border."""
_SAMPLED = 1000
"""Places across the longer side, or along a line, about, that are looked at."""
_BRIGHT = 95
"""Percentile of what is left that stands for bare glass."""
_PLAIN, _ONE_COLOUR = 1, 3
"""Grey levels by which neighbours may differ where a frame was laid around a picture, and by which all of the
frame may differ from its colour."""
_BLOCK, _NEAR_COLOUR = 8, 16
"""Pixels beside a frame in which JPEG mixes it with the picture, and how far from its colour it is then."""
_LEAST_FRAME = 0.03
"""Share of an image that a frame covers, and of its border that has the frame's colour."""
_DARKER = 20
"""Grey levels by which a frame is darker than glass: a lighter one may be over-exposed glass."""
_STAINED = 0.55
"""Green light over that of glass beside it, up to which something lies there."""
_LEAST_CUT = 0.2
"""Length over a cell's longer side along which it ends where the picture does, if it is cut."""
_CUT_OUT = 0.6
"""Share of an image that is no picture, from which its cells were cut out all around: there is no more."""

_LEAST_EDGE = 0.8
"""Share of a picture's width that is of another colour than the frame in the first line behind that."""
_MIXED, _MOST_MIXED, _LEAST_WIDTH = 16, 0.2, 64
"""Lines before it in which JPEG mixes the frame with the picture, and its colours most; the share of each
but the last that is far from the frame's colour then; and the picture's width, pixels, at least: a nucleus on
burnt glass is narrow."""

Mask = NDArray[np.bool_]


def filled(image: Image) -> Image:
    """Return an image as `fill` does, without where it was filled."""
    return fill(image)[0]


def fill(image: Image) -> tuple[Image, Mask | None]:
    """Return an image with the light of bare glass where black, or a plain frame, reaches in from its border.

    It is the same where there is no such place, and where too little light is left to tell.

    Args:
        image: RGB, shape (height, width, 3).

    Returns:
        The image, and where it was filled, shape (height, width); None if nowhere.
    """
    every = max(1, max(image.shape) // _SAMPLED)
    outer = _black(image, every)
    if not outer.any():
        outer = _frame(image, every)
    share = outer.mean()
    if share == 0 or share > _MOST_EMPTY:
        return image, None
    empty = _widened(outer, _SEAM)
    shown = image[::every, ::every][~empty[::every, ::every]]
    if not len(shown):
        return image, None
    glass = np.percentile(shown, _BRIGHT, axis=0)
    if glass.max() < _LIT:
        return image, None
    whole = image.copy()
    whole[empty] = glass.astype(np.uint8)
    return whole, empty


def within_frame(image: Image) -> tuple[Image, tuple[int, int] | None]:
    """Return what of an image lies within a plain upright frame, and its upper left corner, (x, y), if any.

    A wide frame misleads whoever measures the image: its light is taken for that of glass, and the picture is
    a small one in it. Unlike in `fill` it may be of any colour. Along glass that is over-exposed the picture
    does not end: whatever lies there is round, and touches the first line that is not plain in a few pixels.

    Args:
        image: RGB, shape (height, width, 3).
    """
    top, bottom = _plain_lines(image), _plain_lines(image[::-1])
    columns = image.transpose(1, 0, 2)
    left, right = _plain_lines(columns), _plain_lines(columns[::-1])
    height, width = image.shape[:2]
    shown = image[top : max(top, height - bottom), left : max(left, width - right)]
    narrow = shown.size > (1 - _LEAST_FRAME) * image.size
    if narrow or min(shown.shape[:2]) < MIN_SIDE_PX:  # a speck or a line is no picture
        return image, None
    return np.ascontiguousarray(shown), (left, top)


def _plain_lines(image: Image) -> int:
    """Return how many of the first lines are a frame: of one colour, the next one nearly all of another."""
    every = max(1, image.shape[1] // _SAMPLED)
    lines = image[:, ::every]
    colour = np.median(lines[0], axis=0).astype(np.int16)
    if np.abs(lines[0] - colour).max() > _ONE_COLOUR:
        return 0
    away = np.abs(lines - colour).max(axis=2)
    strange, _ = _along(away > _ONE_COLOUR)
    first = int((strange > 0).argmax())
    if strange[first] > _LEAST_EDGE:
        return first
    # In a JPEG the picture's colours reach into the frame; what lies on burnt glass begins bit by bit.
    far, columns = _along(away > _NEAR_COLOUR)
    edge = int((far > _LEAST_EDGE).argmax())
    sudden = not (far[first : max(first, edge - 1)] > _MOST_MIXED).any()
    return edge if 0 < edge < first + _MIXED and sudden and every * columns >= _LEAST_WIDTH else 0


def _along(lines: Mask) -> tuple[NDArray[np.float64], int]:
    """Return which share of a picture's width each line has set, and that width: columns that any has set."""
    columns = int(lines.any(axis=0).sum())
    return np.asarray(lines.sum(axis=1) / max(1, columns)), columns


def cuts(empty: Mask, image: Image, box: Box) -> bool:
    """Return whether a cell ends where the picture does, so that more of it may lie beyond.

    Args:
        empty: where the picture was filled.
        image: filled, RGB.
        box: the cell's, pixels.
    """
    rows, columns = (_about(at, side) for at, side in ((box.y, box.height), (box.x, box.width)))
    hidden, green = empty[rows, columns], image[rows, columns, 1]
    # A soft rim leaves a thin dark line beside what was filled.
    end = _widened(hidden, 2 * _SEAM) & ~_widened(hidden, _SEAM)
    if not end.any() or empty.mean() > _CUT_OUT:
        return False
    # Near a rim the light falls off: what lies there is compared with what is bright along it.
    stained = end & (green < _STAINED * np.percentile(green[end], _BRIGHT))
    y, x = np.nonzero(stained)
    y, x = y + rows.start - box.y, x + columns.start - box.x
    of_cell = (y >= 0) & (y < box.height) & (x >= 0) & (x < box.width)
    return float(of_cell.sum()) >= _LEAST_CUT * _SEAM * box.side


def _about(start: float, side: float) -> slice:
    """Return the pixels of a box and half its side around it, along one axis."""
    return slice(max(0, int(start - side / 2)), int(start + 1.5 * side) + 1)


def _black(image: Image, every: int) -> Mask:
    """Return where black reaches in from the border, or a rim that is nearly black."""
    light = image[::every, ::every].max(axis=2)
    lit = light[light > _BLACK]
    limit = max(_BLACK, DARK * float(np.percentile(lit, _BRIGHT))) if lit.size else _BLACK
    if _border(image).max(axis=1).min() > limit:
        return np.zeros(image.shape[:2], bool)
    # JPEG leaves specks in what is black.
    brightest = cv2.medianBlur(cv2.max(cv2.max(image[..., 0], image[..., 1]), image[..., 2]), 5)
    rim = reaching(brightest <= limit)
    if rim[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= LEAST_CORNERS:
        return rim
    return reaching(brightest <= _BLACK)


def _frame(image: Image, every: int) -> Mask:
    """Return where one colour that is darker than glass lies around the picture."""
    nowhere = np.zeros(image.shape[:2], bool)
    colours, counts = np.unique(_border(image), axis=0, return_counts=True)
    colour = colours[counts.argmax()]
    sample = image[::every, ::every].reshape(-1, 3)
    shown = sample[np.abs(sample.astype(np.int16) - colour).max(axis=1) > _NEAR_COLOUR]
    if counts.max() < _LEAST_FRAME * counts.sum() or not len(shown):
        return nowhere
    if np.percentile(shown, _BRIGHT, axis=0).mean() < colour.mean() + _DARKER:
        return nowhere
    away = cv2.absdiff(image, np.full_like(image, colour)).max(axis=2)
    plain = cv2.morphologyEx(image, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2) <= _PLAIN
    outer = reaching((away <= _ONE_COLOUR) & plain)
    if outer.mean() < _LEAST_FRAME:
        return nowhere
    return np.asarray(outer | (_widened(outer, _BLOCK) & (away <= _NEAR_COLOUR)))


def _border(image: Image) -> Image:
    """Return the pixels along the border, shape (pixels, 3)."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def reaching(mask: Mask) -> Mask:
    """Return what of a mask, shape (height, width), reaches the border."""
    if not mask.any():
        return mask
    around = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(around, None, (0, 0), _OUTER)
    return np.asarray(around[1:-1, 1:-1] == _OUTER)


def _widened(mask: Mask, by: int) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0
