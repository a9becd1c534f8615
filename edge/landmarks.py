"""Points of a picture that are known again at any angle: SIFT (Lowe 2004), matched and put to a vote.

The slower way to lay one picture on another, for when nothing tells where and how turned it lies.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.pose import Pose

_LEAST_CONTRAST = 0.005
"""Of a landmark, as SIFT counts it (0..1)."""
_RATIO = 0.9
"""A match is taken where the next best is at least this much farther away (Lowe's test)."""
_LEAST_VOTES = 10
"""Landmarks that must support a pose."""
_LEAST_MATCHES = 3
"""Two always agree."""
_MOST_SCALING = 0.05
"""The microscope does not zoom: a pose that would scale by more than this share is a mistake."""


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The landmarks of one picture."""

    points: NDArray[np.float32]
    """Shape (landmarks, 2): x, y, pixels."""
    looks: NDArray[np.uint8]
    """Shape (landmarks, 128): what tells one from the others."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How one picture lies on another: scaled first, then laid."""

    pose: Pose
    scale: float
    """Pixels of the other to a pixel of the one."""
    support: NDArray[np.float32]
    """The landmarks of the other that support it, shape (votes, 2)."""

    @property
    def votes(self) -> int:
        """Landmarks that support it."""
        return len(self.support)

    def to_reference(self, x: float, y: float) -> tuple[float, float]:
        """Return where the point (x, y) of the one lies in the other, pixels."""
        return self.pose.to_slide(self.scale * x, self.scale * y)

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """Return where the point (x, y) of the other lies in the one, pixels; maybe outside it."""
        u, v = self.pose.to_frame(x, y)
        return u / self.scale, v / self.scale


@cache
def _sift(most: int) -> Any:
    return cv2.SIFT.create(nfeatures=most, contrastThreshold=_LEAST_CONTRAST)


def landmarks(grey: NDArray[np.uint8], most: int = 150) -> Landmarks:
    """Return the `most` strongest landmarks of a grey picture."""
    points, looks = _sift(most).detectAndCompute(grey, None)
    if looks is None:
        return Landmarks(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    return Landmarks(np.array([p.pt for p in points], np.float32), np.asarray(looks, np.uint8))


def find_pose(reference: Landmarks, picture: Landmarks) -> Pose | None:
    """Return how `picture` lies on `reference`, at one scale; None where too few landmarks agree."""
    found = fit(reference, picture)
    sure = found and found.votes >= _LEAST_VOTES and abs(found.scale - 1) <= _MOST_SCALING
    return found.pose if found and sure else None


def fit(
    reference: Landmarks, picture: Landmarks, reach: float = 2.0, *, without: Fit | None = None
) -> Fit | None:
    """Return how `picture`, moved, turned and scaled, lies best on `reference`; None where nothing tells.

    Args:
        reference: in its own pixels.
        picture: likewise.
        reach: of `reference`'s pixels, within which a landmark supports a pose.
        without: a fit whose landmarks have no vote.
    """
    if min(len(reference.points), len(picture.points)) < _LEAST_MATCHES:
        return None
    ours, theirs = picture.looks.astype(np.float32), reference.looks.astype(np.float32)
    pairs = cv2.BFMatcher().knnMatch(ours, theirs, 2)
    good = [best for best, second in pairs if best.distance < _RATIO * second.distance]
    # One to one: many that are like one landmark would vote for a picture shrunken into that point.
    nearest = {m.trainIdx: m for m in sorted(good, key=lambda m: -m.distance)}
    if without is not None:
        spent = {tuple(point) for point in without.support.tolist()}
        nearest = {i: m for i, m in nearest.items() if tuple(reference.points[i].tolist()) not in spent}
    if len(nearest) < _LEAST_MATCHES:
        return None
    cv2.setRNGSeed(1)  # The vote draws at random: the same pictures give the same pose.
    seen = reference.points[list(nearest)]
    move, support = cv2.estimateAffinePartial2D(
        picture.points[[m.queryIdx for m in nearest.values()]],
        seen,
        ransacReprojThreshold=reach,
        maxIters=5000,
        confidence=0.999,
    )
    if move is None:
        return None
    pose = Pose(float(move[0, 2]), float(move[1, 2]), math.atan2(move[1, 0], move[0, 0]))
    return Fit(pose, math.hypot(move[0, 0], move[1, 0]), seen[support.ravel() > 0])
