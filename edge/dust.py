"""What stays in its place in every frame, while the slide moves on: dust on the sensor or the optics.

Where the slide shows little, dust is all that two frames have in common, and the stage would seem to rest.
"""

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.register import THUMB_UNIT, Thumb

_LEAST_VIEWS, _MOST_VIEWS = 6, 30
"""Views of different places that are compared."""
_SURE = 3.0
"""A point is dust where it is dark on the average by so many standard errors of it: of a slide's own points
one in a thousand is."""
_DARKEST = 1.5 * THUMB_UNIT
"""What is darker counts as this: one nucleus makes no dust."""
_MOST = 0.2
"""Share of the picture that may be dust; where more stays, it is no dust."""


class Dust:
    """Learns from views of different places where a frame shows dust."""

    def __init__(self) -> None:
        self._views: deque[Thumb] = deque(maxlen=_MOST_VIEWS)
        self._mask: NDArray[np.bool_] | None = None
        self._stale = False

    def learn(self, thumb: Thumb) -> None:
        """Take the view of a place that none before showed; one of another shape begins anew."""
        if self._views and self._views[0].shape != thumb.shape:
            self._views.clear()
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
        mean = np.mean(np.clip(self._views, -_DARKEST, _DARKEST), axis=0)
        dark = mean < -_SURE * THUMB_UNIT / math.sqrt(number)
        # Its soft edge is dust too.
        wide = cv2.dilate(dark.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        return wide if wide.any() and wide.mean() <= _MOST else None
