import math

import numpy as np
import pytest

from edge.landmarks import Landmarks, find_pose, fit

RNG = np.random.default_rng(1)
POINTS = RNG.uniform(0, 200, (14, 2)).astype(np.float32)
LOOKS = RNG.integers(0, 256, (14, 128), np.uint8)


def laid(degrees: float, scale: float) -> Landmarks:
    """Return the points as a picture shows them that is so turned and scaled."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]], np.float32)
    return Landmarks((POINTS - [30, -20]).astype(np.float32) @ turn / np.float32(scale), LOOKS)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (40, 1.02), (-150, 0.8), (90, 1.3)])
def test_a_picture_is_laid_moved_turned_and_scaled(degrees: float, scale: float) -> None:
    found = fit(Landmarks(POINTS, LOOKS), laid(degrees, scale))
    assert found is not None
    assert found.votes == 14
    assert found.scale == pytest.approx(scale, abs=1e-3)
    assert math.degrees(found.pose.angle) == pytest.approx(degrees, abs=0.1)
    there = laid(degrees, scale).points[3]
    assert found.to_reference(*there) == pytest.approx(tuple(POINTS[3]), abs=0.1)
    assert found.to_picture(*POINTS[3]) == pytest.approx(tuple(there), abs=0.1)


@pytest.mark.parametrize(("scale", "same"), [(1.04, True), (1.08, False), (0.9, False)])
def test_one_microscope_does_not_zoom(scale: float, same: bool) -> None:
    assert (find_pose(Landmarks(POINTS, LOOKS), laid(20, scale)) is not None) is same


def test_many_places_that_look_like_one_do_not_outvote_the_true_pose() -> None:
    picture = laid(30, 1.0)
    alike = np.repeat(LOOKS[:1], 20, axis=0)
    many = Landmarks(
        np.concatenate([picture.points, RNG.uniform(0, 200, (20, 2)).astype(np.float32)]),
        np.concatenate([picture.looks, alike]),
    )
    found = fit(Landmarks(POINTS, LOOKS), many)
    assert found is not None
    assert found.scale == pytest.approx(1, abs=0.02)
    assert math.degrees(found.pose.angle) == pytest.approx(30, abs=1)


def test_too_few_landmarks_tell_nothing() -> None:
    few = Landmarks(POINTS[:2], LOOKS[:2])
    assert fit(few, few) is None
    assert find_pose(Landmarks(POINTS[:9], LOOKS[:9]), Landmarks(POINTS[:9], LOOKS[:9])) is None
