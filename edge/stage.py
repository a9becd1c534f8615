"""Where the stage is: each frame is laid on the slide by what it shows.

The slide is remembered as key views: small pictures at known places, about a third of a field apart.
A frame is registered (phase correlation) against the key view nearest to where the stage was, so
errors add up per key view and not per frame, and a stretch seen again is met where it was. Every
registration is checked by the correlation of the two pictures over their overlap.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image

_THUMB_SIDE = 160
"""Longer side of a frame at the scale of the key views, pixels."""
_TRIM = 8
"""Thumb pixels cut off at each border."""
_LEAST_SIDE = 24
"""A frame so long and thin that less is left of its shorter side cannot be placed."""
_KEY_DISTANCE = 0.3
"""A new key view is kept this share of the field away from all others."""
_TRIES = 12
"""Key views compared with a frame at most, when the place is lost."""

_MOST_REST = 2.0
"""The second look at a shift may correct the first by this many thumb pixels."""

Thumb = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pose:
    """How a frame lies on the slide: slide = (x, y) + R(angle) frame.

    Both count pixels of the frame, x to the right and y down, from the middle of a pixel.
    """

    x: float
    y: float
    """Where the middle of the frame's upper left pixel lies on the slide, pixels."""
    angle: float
    """How far the frame is turned, radians: a positive angle turns its x axis towards the slide's y axis
    (clockwise on a screen)."""

    def to_slide(self, x: float, y: float) -> tuple[float, float]:
        """Return where the point (x, y) of the frame lies on the slide, pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.x + cos * x - sin * y, self.y + sin * x + cos * y

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        """Return where the point (x, y) of the slide lies in the frame, pixels; maybe outside it."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = x - self.x, y - self.y
        return cos * x + sin * y, cos * y - sin * x


@dataclass(frozen=True, slots=True)
class KeyView(Pose):
    """One remembered piece of the slide."""

    size: tuple[int, int]
    """(width, height) of the frames that it belongs to, pixels: frames of another size have another scale."""
    thumb: Thumb
    """Shape (height, width), longer side 144: local contrast, mean 0, deviation about 1."""


@dataclass(frozen=True, slots=True)
class Place(Pose):
    """Where a frame lies."""

    new_key: KeyView | None
    """The key view that this frame became, if it did: to be stored."""


class Stage:
    """The position of the stage, frame by frame.

    Args:
        keys: key views of an earlier run of the same specimen; the first frame must then show a
            place already seen.
        least_correlation: how well a frame must agree with a key view over their overlap (-1..1)
            for its place to be believed.
        least_overlap: share of the field (0..1) that the two must share.
    """

    def __init__(
        self, keys: Iterable[KeyView] = (), least_correlation: float = 0.5, least_overlap: float = 0.3
    ) -> None:
        self._keys = list(keys)
        self._least_correlation = least_correlation
        self._least_overlap = least_overlap
        self._last: KeyView | None = None
        self._search_from = 0

    @property
    def fields(self) -> int:
        """Number of fields of view seen so far, about a third of a field apart."""
        return len(self._keys)

    def place(self, image: Image) -> Place | None:
        """Return where the frame lies; None when it cannot be told (lost).

        The very first frame of a slide lies at (0, 0).
        """
        height, width = image.shape[:2]
        scale = max(height, width) / _THUMB_SIDE
        thumb = thumbnail(image)
        if min(thumb.shape) < _LEAST_SIDE:
            return None
        if not self._keys:
            return self._keep(KeyView(0.0, 0.0, 0.0, (width, height), thumb))
        found = self._register(thumb, (width, height), scale)
        if found is None:
            return None
        view = KeyView(*found, 0.0, (width, height), thumb)
        self._last = view
        distance = min(max(abs(k.x - view.x) / width, abs(k.y - view.y) / height) for k in self._keys)
        return self._keep(view) if distance > _KEY_DISTANCE else Place(view.x, view.y, view.angle, None)

    def _keep(self, view: KeyView) -> Place:
        self._keys.append(view)
        self._last = view
        return Place(view.x, view.y, view.angle, view)

    def _register(self, thumb: Thumb, size: tuple[int, int], scale: float) -> tuple[float, float] | None:
        for reference in self._references():
            if reference.size != size:
                continue
            shift = self._shift(reference.thumb, thumb)
            if shift is not None:
                return reference.x + shift[0] * scale, reference.y + shift[1] * scale
        return None

    def _references(self) -> Iterable[KeyView]:
        """Yield what to compare a frame with: the nearest key view, the last frame, then ever more."""
        if self._last is not None:
            x, y = self._last.x, self._last.y
            near = sorted(self._keys, key=lambda k: (k.x - x) ** 2 + (k.y - y) ** 2)
            yield near[0]
            yield self._last
            yield from near[1:4]
        # Lost: go through all of them, a few a frame, so that a frame stays affordable.
        count = len(self._keys)
        for step in range(min(_TRIES, count)):
            yield self._keys[(self._search_from + step) % count]
        self._search_from = (self._search_from + _TRIES) % count

    def _shift(self, reference: Thumb, thumb: Thumb) -> tuple[float, float] | None:
        """Return how far `thumb` lies right of and below `reference`, thumb pixels, if believable."""
        (dx, dy), _ = cv2.phaseCorrelate(thumb, reference, _window(thumb))
        height, width = thumb.shape
        overlap = (1 - abs(dx) / width) * (1 - abs(dy) / height)
        if abs(dx) >= width or abs(dy) >= height or overlap < self._least_overlap:
            return None
        x, y = round(dx), round(dy)
        a, b = _overlap(reference, x, y), _overlap(thumb, -x, -y)
        if float((a * b).sum()) < self._least_correlation:
            return None
        rest_x, rest_y = _rest(a, b)
        return (x + rest_x, y + rest_y) if max(abs(rest_x), abs(rest_y)) < _MOST_REST else (dx, dy)


def thumbnail(image: Image) -> Thumb:
    """Return the local contrast of a frame, small and trimmed: the light does not matter to it."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = _THUMB_SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    contrast = cv2.GaussianBlur(small, (0, 0), 1.0) - cv2.GaussianBlur(small, (0, 0), 10.0)
    # Near the border the blur leans on the border itself, which does not move with the slide: kept, it
    # pulls every shift towards zero by half a percent.
    contrast = contrast[_TRIM:-_TRIM, _TRIM:-_TRIM]
    return np.asarray(contrast / (np.sqrt((contrast**2).sum() / max(contrast.size, 1)) + 1e-3), np.float32)


@lru_cache(maxsize=256)
def _hanning(height: int, width: int) -> Thumb:
    return np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), np.float32)


def _window(thumb: Thumb) -> Thumb:
    return _hanning(*thumb.shape)


def _overlap(thumb: Thumb, x: int, y: int) -> Thumb:
    """Return the part of `thumb` that another, lying `x` right and `y` below, covers; norm 1."""
    height, width = thumb.shape
    part = thumb[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
    part = part - part.mean()
    return np.asarray(part / (np.linalg.norm(part) + 1e-9), np.float32)


def _rest(a: Thumb, b: Thumb) -> tuple[float, float]:
    """Return how far `b` lies right of and below `a`, less than a pixel or two: Lucas and Kanade 1981.

    The peak of a phase correlation is good to half a pixel; over many key views that would add up.
    """
    along_y, along_x = np.gradient((a + b) / 2)
    weight = _window(a)
    slopes = np.stack([along_x.ravel(), along_y.ravel()])
    normal = (slopes * weight.ravel()) @ slopes.T
    right = (slopes * weight.ravel()) @ (b - a).ravel()
    x, y = np.linalg.lstsq(normal, right, rcond=None)[0]
    return float(x), float(y)
