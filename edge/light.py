"""How the light falls off to the corners of a microscope's frames: learned from them, and taken out of them.

A lens gives the corners of a picture less light than its middle. Shaded glass looks like something stained,
and would be taken for red cells. The course of the light is laid through the bare glass of each frame, and
its mean over the frames is taken out. It is round about the middle and falls outwards: so what lies on the
slide, to one side say, is not learned as light, even where the stage rests. All else needs a flat field
(`edge.flatfield`); with one, nothing is left to find here.
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
_BARE = 0.02
"""Distance to the course (natural logarithm) up to which a part is bare glass; below it something covers it,
above it something shines that is none, a tool bar say."""
_ROUNDS = 8
"""In which covered parts are left out; in the last one those that shine too."""
_FEWEST, _FEWEST_QUARTER, _FEWEST_OUTER, _OUTER = 36, 4, 6, 1.1
"""Bare parts without which a frame tells nothing: of all, of each quarter of the picture, and of those whose
squared distance to its middle (to a corner: 2) is greater than the last."""
_KNOWN, _MEMORY = 5, 200
"""Frames after which the light is known, and over which its mean reaches, about: a single view of a full
slide may be 5 % wrong in the corners."""
_PLACES = 48
"""Of the course, each way."""
_EVEN = 0.93
"""Light in the corners from which it is even enough, the middle's 1: a slide may seem so uneven."""
_LEAST = 0.3
"""Less light than that is believed to be nowhere: a rim, not the light."""
_AGAIN = 30
"""Frames after which what is taken out follows the course: each change moves all pictures a little."""


class Light:
    """The light of a session, frame by frame."""

    def __init__(self) -> None:
        self._weights = np.zeros(_basis(1, 0).shape[1])
        """Of the course's terms (`_basis`)."""
        self._frames = 0
        self._course: NDArray[np.float32] | None = None
        """How bright each place is, shape (48, 48), the brightest 1."""
        self._gain: NDArray[np.float32] | None = None

    def learn(self, parts: NDArray[np.float32]) -> None:
        """Take note of the glass of the parts (`glass`) of a frame that is fit to be counted from."""
        if (fitted := _fitted(parts)) is None:
            return
        self._frames += 1
        share = max(1 / self._frames, 1 / _MEMORY)
        self._weights = (1 - share) * self._weights + share * fitted
        if self._frames == _KNOWN or self._frames % _AGAIN == 0:
            # Nowhere more than in the middle.
            depth = np.minimum((_basis(_PLACES, 0) @ self._weights) - self._weights[0], 0)
            course = np.exp(depth).reshape(_PLACES, _PLACES)
            self._course = np.asarray(np.maximum(course, _LEAST), np.float32)
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


def _fitted(parts: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return the weights of the terms that fit a frame's bare parts; None where these are too few."""
    basis = _basis(_PARTS, _INWARD)
    depth = np.log(np.maximum(parts, 1.0)).ravel()
    bare = np.full(depth.shape, True)
    for i in range(_ROUNDS):
        weights = np.linalg.lstsq(basis[bare], depth[bare], rcond=None)[0]
        above = depth - basis @ weights
        bare = (above > -_BARE) & ((above < _BARE) | (i < _ROUNDS - 2))
        if not _tells(bare):
            return None
    return np.asarray(weights, np.float64)


def _tells(bare: NDArray[np.bool_]) -> bool:
    """Tell whether so much of a picture is bare glass that its light is known by it."""
    half = _PARTS // 2
    quarters = bare.reshape(2, half, 2, half).sum(axis=(1, 3))
    outer = bare[_basis(_PARTS, 0)[:, 1:3].sum(axis=1) > _OUTER].sum()
    return bool(bare.sum() >= _FEWEST and quarters.min() >= _FEWEST_QUARTER and outer >= _FEWEST_OUTER)


@cache
def _basis(places: int, inward: float) -> NDArray[np.float64]:
    """Return the terms of the course, the logarithm of light, shape (places ** 2, 4).

    1, x^2, y^2, (x^2 + y^2)^2; x and y are 0 in the middle, and 1 at the picture's sides, long or short.

    Args:
        places: each way; the terms are those of their middles.
        inward: how far nearer to the picture's middle, in halves of a place.
    """
    middles = (2 * np.arange(places) + 1) / places - 1
    middles -= inward / places * np.sign(middles)
    y, x = (side.ravel() ** 2 for side in np.meshgrid(middles, middles, indexing="ij"))
    return np.stack([np.ones_like(x), x, y, (x + y) ** 2], axis=1)
