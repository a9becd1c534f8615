"""How the light falls on the frames of one microscope, learned from what they show, and taken out of them.

A lens gives the corners of a picture less light than its middle. Shaded glass looks like something stained,
and would be taken for red cells. What lies on the slide moves, what the light does stays: the brightest that
each part of the picture ever was is glass. A smooth course is laid through these parts from above, so that it
holds where a part has been covered all the time. A flat field (`edge.flatfield`) knows more, and then nothing
is left to find here.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image

_PARTS = 8
"""Parts of the picture each way."""
_GLASS = 0.9
"""Quantile of a part's pixels that is taken for its glass."""
_FADING = 0.9995
"""How fast the brightest is forgotten, a frame."""
_EXPOSED = 80
"""Percentile of the parts that tells how long a frame was exposed: most parts show some glass."""
_KNOWN = 5
"""Frames after which the light is known."""
_AGAIN = 30
"""Frames after which its course is found anew."""
_COVERED = 0.02
"""Below the course (natural logarithm) by which a part is taken for covered."""
_ROUNDS, _FEWEST = 4, 21
"""So often covered parts are left out, down to so many that are not."""
_EVEN = 0.94
"""Darkest over brightest part from which the light is even enough: the course of a slide may be so uneven."""
_LEAST = 0.3
"""Darker than this share of the brightest it is believed to be nowhere: a rim, not the light."""


class Light:
    """The light of a session, frame by frame."""

    def __init__(self) -> None:
        self._brightest: NDArray[np.float32] | None = None
        self._frames = 0
        self._course: NDArray[np.float32] | None = None
        """How bright each part is, shape (8, 8), the brightest 1."""
        self._gain: NDArray[np.float32] | None = None

    def learn(self, parts: NDArray[np.float32]) -> None:
        """Take note of the glass of a frame's parts (`glass`)."""
        seen = np.ones_like(parts) if self._brightest is None else self._brightest
        exposure = max(float(np.percentile(parts / seen, _EXPOSED)), 1.0)
        before = np.zeros_like(parts) if self._brightest is None else _FADING * seen
        self._brightest = np.maximum(before, parts / exposure)
        self._frames += 1
        if self._frames == _KNOWN or self._frames % _AGAIN == 0:
            self._course, self._gain = _course(self._brightest), None

    @property
    def darkest(self) -> float:
        """The light where it is weakest, 0..1 of the strongest; 1 before it is known."""
        return 1.0 if self._course is None else float(self._course.min())

    def shade(self, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Return how much light falls on each place of a picture of `shape`, 0..1 of the strongest.

        None where it is even, or not known yet.
        """
        if self._course is None or self.darkest >= _EVEN:
            return None
        return np.asarray(cv2.resize(self._course, shape[1::-1], interpolation=cv2.INTER_CUBIC), np.float32)

    def even(self, image: Image) -> Image:
        """Return an RGB image as an even light would have shown it; the same one where `shade` is None."""
        if self._gain is None or self._gain.shape != image.shape:
            if (shade := self.shade(image.shape)) is None:
                return image
            self._gain = np.repeat(1 / shade[..., None], 3, axis=2)
        return np.asarray(cv2.multiply(image, self._gain, dtype=cv2.CV_8U), np.uint8)


def glass(green: cv2.typing.MatLike) -> NDArray[np.float32]:
    """Return how bright the glass of each part of a picture's green channel is, shape (8, 8), 0..255."""
    if min(green.shape) < _PARTS:  # a strip; its few pixels are enlarged
        columns, rows = (max(side, _PARTS) for side in green.shape[::-1])
        green = cv2.resize(green, (columns, rows), interpolation=cv2.INTER_NEAREST)
    rows, columns = green.shape[0] // _PARTS, green.shape[1] // _PARTS
    parts = green[: rows * _PARTS, : columns * _PARTS].reshape(_PARTS, rows, _PARTS, columns)
    flat = parts.transpose(0, 2, 1, 3).reshape(_PARTS, _PARTS, -1)
    place = int(_GLASS * (flat.shape[2] - 1))
    return np.asarray(np.partition(flat, place, axis=2)[..., place], np.float32)


def _course(brightest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smooth course through the brightest parts, shape (8, 8), the brightest 1.

    A polynomial of the second degree and the fourth power of the distance to the middle, in logarithms.
    """
    y, x = np.meshgrid(*[np.linspace(-1, 1, _PARTS)] * 2, indexing="ij")
    far = x**2 + y**2
    basis = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2, far**2], axis=-1).reshape(-1, 7)
    depth = np.log(np.maximum(brightest, 1e-3)).ravel()
    bare = np.full(depth.shape, True)
    for _ in range(_ROUNDS):
        course = basis @ np.linalg.lstsq(basis[bare], depth[bare], rcond=None)[0]
        bare = depth > course - _COVERED
        if bare.sum() < _FEWEST:
            break
    level = np.exp(course - course.max()).reshape(_PARTS, _PARTS)
    return np.asarray(np.maximum(level, _LEAST), np.float32)
