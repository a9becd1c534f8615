"""How the light falls on the frames of one microscope, learned from what they show, and taken out of them.

A lens gives the corners of a picture less light than its middle. Shaded glass looks like something stained,
and would be taken for red cells. A smooth course is laid through the bare glass of each frame; what lies on
the slide moves, what the light does stays, so that the mean over the frames is the light's. A flat field
(`edge.flatfield`) knows more, and then nothing is left to find here.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image

_PARTS = 12
"""Parts of the picture each way."""
_GLASS, _INWARD = 0.9, 0.6
"""Quantile of a part's pixels that is taken for its glass; and how far from the part's middle, in halves of
it, such bright glass lies where the light falls off outwards."""
_COVERED = 0.02
"""Below the course (natural logarithm) by which a part is taken for covered."""
_ROUNDS, _FEWEST = 8, 30
"""So often covered parts are left out, down to so many that are not."""
_KNOWN = 5
"""Frames after which the light is known."""
_MEMORY = 60
"""Frames over which the mean reaches, about."""
_PLACES = 48
"""Of the course, each way."""
_EVEN = 0.94
"""Darkest over brightest place from which the light is even enough: a slide may seem so uneven."""
_LEAST = 0.3
"""Darker than this share of the brightest it is believed to be nowhere: a rim, not the light."""
_AGAIN = 30
"""Frames after which what is taken out follows the course."""


class Light:
    """The light of a session, frame by frame."""

    def __init__(self) -> None:
        self._weights = np.zeros(7)
        """Of the course's terms (`_basis`)."""
        self._frames = 0
        self._course: NDArray[np.float32] | None = None
        """How bright each place is, shape (48, 48), the brightest 1."""
        self._gain: NDArray[np.float32] | None = None

    def learn(self, parts: NDArray[np.float32]) -> None:
        """Take note of the glass of a frame's parts (`glass`)."""
        self._frames += 1
        share = max(1 / self._frames, 1 / _MEMORY)
        self._weights = (1 - share) * self._weights + share * _fitted(parts)
        if self._frames == _KNOWN or self._frames % _AGAIN == 0:
            course = (_basis(_PLACES, 0) @ self._weights).reshape(_PLACES, _PLACES)
            self._course = np.asarray(np.maximum(np.exp(course - course.max()), _LEAST), np.float32)
            self._gain = None

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
    """Return how bright the glass of each part of a picture's green channel is, shape (12, 12), 0..255."""
    rows, columns = (-(-side // _PARTS) for side in green.shape)
    # Not cut to whole parts: what is cut off would move all others.
    full = cv2.resize(green, (columns * _PARTS, rows * _PARTS), interpolation=cv2.INTER_NEAREST)
    parts = full.reshape(_PARTS, rows, _PARTS, columns)
    flat = parts.transpose(0, 2, 1, 3).reshape(_PARTS, _PARTS, -1)
    place = int(_GLASS * (flat.shape[2] - 1))
    return np.asarray(np.partition(flat, place, axis=2)[..., place], np.float32)


def _fitted(parts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the weights of the course's terms that fit the bare parts of a frame."""
    basis = _basis(_PARTS, _INWARD)
    depth = np.log(np.maximum(parts, 1.0)).ravel()
    bare = np.full(depth.shape, True)
    for _ in range(_ROUNDS):
        weights = np.linalg.lstsq(basis[bare], depth[bare], rcond=None)[0]
        before, bare = bare, depth > basis @ weights - _COVERED
        if bare.sum() < _FEWEST or (bare == before).all():
            break
    return np.asarray(weights, np.float64)


@cache
def _basis(places: int, inward: float) -> NDArray[np.float64]:
    """Return the terms of the course, the logarithm of light, shape (places ** 2, 7).

    A polynomial of the second degree, and the fourth power of the distance to the middle.

    Args:
        places: each way; the terms are those of their middles.
        inward: how far nearer to the picture's middle, in halves of a place.
    """
    middles = (2 * np.arange(places) + 1) / places - 1
    middles -= inward / places * np.sign(middles)
    y, x = (side.ravel() for side in np.meshgrid(middles, middles, indexing="ij"))
    return np.stack([np.ones_like(x), x, y, x * y, x**2, y**2, (x**2 + y**2) ** 2], axis=1)
