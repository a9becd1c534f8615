"""What stays in its place in every frame, while the slide moves on: dust on the sensor, a pointer, a legend.

Where the slide shows little, this is all that two frames have in common, and the stage would seem to rest.
"""

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.register import THUMB_UNIT, Thumb

_LEAST_VIEWS, _MOST_VIEWS = 6, 30
"""Views that differ, which are compared."""
_CHANGED = 7
"""Mean difference (units of a thumb) between two views by which they differ: two of a nearly bare slide, most
of which is the same dust, do by 7 to 10."""
_SURE = 3.0
"""A point is dust where it is dark or bright on the average by so many standard errors of it: of a slide's
own points one in four hundred is."""
_MOST_CONTRAST = 1.5 * THUMB_UNIT
"""What is darker or brighter counts as this: one nucleus makes no dust."""
_MOST = 0.3
"""Share of the picture that may be dust; where more stays, it is no dust."""


class Dust:
    """Learns from views that differ where a frame shows dust."""

    def __init__(self) -> None:
        self._views: deque[Thumb] = deque(maxlen=_MOST_VIEWS)
        self._mask: NDArray[np.bool_] | None = None
        self._stale = False

    def learn(self, thumb: Thumb) -> None:
        """Take a view that is not the last one again; one of another shape begins anew."""
        if self._views and self._views[0].shape != thumb.shape:
            self._views.clear()
        if self._views and cv2.norm(self._views[-1], thumb, cv2.NORM_L1) < _CHANGED * thumb.size:
            return
        self._views.append(thumb)
        self._stale = True

    def mask(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Return where dust lies in a thumb of `shape`; None where none is known."""
        if self._stale:
            self._mask, self._stale = self._find(), False
        return self._mask if self._mask is not None and self._mask.shape == shape else None

    def _find(self) -> NDArray[np.bool_] | None:
        number = len(self._views)
        if number < _LEAST_VIEWS:
            return None
        mean = np.mean(np.clip(self._views, -_MOST_CONTRAST, _MOST_CONTRAST), axis=0)
        still = np.abs(mean) > _SURE * THUMB_UNIT / math.sqrt(number)
        # Its soft edge is dust too.
        wide = cv2.dilate(still.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        return wide if wide.any() and wide.mean() <= _MOST else None
