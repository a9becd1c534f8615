"""The black rim of an eyepiece or of a phone's adapter: it stays where it is while the slide moves.

The picture of such a camera is the upright rectangle that lies within the rim: what its border cuts waits, as
at any border, until the stage brings the whole of it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Frame, Image, Skip
from edge.errors import UserError
from edge.void import DARK, LEAST_CORNERS, reaching

_LOOKED = 3
"""Frames, the first lit ones, that must show the rim: a torn picture or a slide's own edge does not stay."""
_SMALL = 160
"""Longer side, pixels, at which the rim is looked for."""
_LIT = 35
"""Where the glass is no brighter (0..255) it cannot be told, nor is anything counted (`edge.quality`)."""
_GLASS = 95
"""Percentile that stands for bare glass: a round view fills more than half of its picture."""
_LEAST_SHARE = 0.01
"""Of the picture's area, that a rim covers."""
_SOFT = 2
"""Pixels at that size in which the rim fades into the picture."""
_LEAST_LEFT = 0.2
"""Share of either side that must be left."""

_ALIKE = 0.05
"""Share of a side by which a rectangle may differ from that of an earlier run."""

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom, pixels."""


def within_rim(frames: Iterable[Frame | Skip], size: tuple[int, int] | None = None) -> Iterator[Frame | Skip]:
    """Yield the frames, each cut to what lies within the rim of the first lit ones; the same where none is.

    Until it is known, the first lit frames are held back.

    Args:
        frames: of one camera.
        size: (width, height) that its pictures had before, as the map or the flat field has it: a rectangle
            of nearly this size becomes one of it, as the frames before the lamp is on do; whole ones stay.
    """
    held: list[Frame | Skip] = []
    rims: list[NDArray[np.bool_]] = []
    whole: tuple[int, ...] = ()
    window: Rectangle | None = None
    try:
        for frame in frames:
            if len(rims) == _LOOKED:
                yield _cut(frame, whole, window)
                continue
            held.append(frame)
            if isinstance(frame, Frame):
                whole = frame.image.shape
                rim = find_rim(frame.image)
                if rims and (rim is None or rim.shape != rims[0].shape):
                    rims.clear()
                rims += [] if rim is None else [rim]
            if len(rims) == _LOOKED:
                window = _alike(rectangle(np.logical_and.reduce(rims), whole), size, whole)
            if len(rims) in (0, _LOOKED):
                shown = window if rims or not whole else _alike((0, 0, whole[1], whole[0]), size, whole, 1.0)
                yield from (_cut(early, whole, shown) for early in held)
                held.clear()
    except UserError:  # the source broke off; what it gave comes first
        yield from held
        raise
    yield from held


def _alike(
    window: Rectangle | None, size: tuple[int, int] | None, whole: tuple[int, ...], most: float = _ALIKE
) -> Rectangle | None:
    """Return a rectangle of `size` about the middle of `window`, if no side differs by more than `most`."""
    if window is None or size is None:
        return window
    if size == (whole[1], whole[0]):
        return None
    sides = window[2] - window[0], window[3] - window[1]
    fits = size[0] <= whole[1] and size[1] <= whole[0]
    if not fits or any(abs(new - old) > most * old for old, new in zip(sides, size, strict=True)):
        return window
    left, top = (
        min(max(0, (window[i] + window[i + 2] - size[i]) // 2), whole[1 - i] - size[i]) for i in (0, 1)
    )
    return left, top, left + size[0], top + size[1]


def _cut(frame: Frame | Skip, whole: tuple[int, ...], window: Rectangle | None) -> Frame | Skip:
    if isinstance(frame, Skip) or window in (None, (0, 0, *whole[1::-1])) or frame.image.shape != whole:
        return frame
    left, top, right, bottom = window
    return replace(frame, image=np.ascontiguousarray(frame.image[top:bottom, left:right]), corner=(left, top))


def find_rim(image: Image) -> NDArray[np.bool_] | None:
    """Return where black reaches in from the border, at a longer side of 160 pixels; None in the dark.

    Args:
        image: RGB, shape (height, width, 3).
    """
    scale = min(1.0, _SMALL / max(image.shape[:2]))
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    light = cv2.resize(image, size, interpolation=cv2.INTER_AREA).max(axis=2)
    glass = float(np.percentile(light, _GLASS))
    if glass < _LIT:
        return None
    return reaching(light <= DARK * glass)


def rectangle(rim: NDArray[np.bool_], shape: tuple[int, ...]) -> Rectangle | None:
    """Return what is left of a picture of `shape` within a rim (`find_rim`); None where it is no rim.

    The border line that the rim covers most goes, again and again, until none is covered.
    """
    corners = rim[[0, 0, -1, -1], [0, -1, 0, -1]].sum()
    if corners < LEAST_CORNERS or rim.mean() < _LEAST_SHARE:
        return None
    height, width = rim.shape
    left, top, right, bottom = 0, 0, width, height
    while right - left > 1 and bottom - top > 1:
        lines = {
            "left": rim[top:bottom, left],
            "top": rim[top, left:right],
            "right": rim[top:bottom, right - 1],
            "bottom": rim[bottom - 1, left:right],
        }
        worst = max(lines, key=lambda side: float(lines[side].mean()))
        if not lines[worst].any():
            break
        left, top = left + (worst == "left"), top + (worst == "top")
        right, bottom = right - (worst == "right"), bottom - (worst == "bottom")
    left, top = left and left + _SOFT, top and top + _SOFT
    right, bottom = right - _SOFT * (right < width), bottom - _SOFT * (bottom < height)
    if right - left < _LEAST_LEFT * width or bottom - top < _LEAST_LEFT * height:
        return None
    across, down = shape[1] / width, shape[0] / height
    return math.ceil(left * across), math.ceil(top * down), int(right * across), int(bottom * down)
