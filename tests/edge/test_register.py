import cv2
import numpy as np
import pytest

from edge.pose import Pose
from edge.register import Thumb, beside, beside_common, register, thumbnail


def thumb(*discs: tuple[int, int, int, int]) -> Thumb:
    """Return the thumb of a bare slide with discs: x, y, radius, grey level."""
    image = np.full((480, 640, 3), 225, np.uint8)
    for x, y, radius, level in discs:
        cv2.circle(image, (x, y), radius, (level,) * 3, -1)
    found = thumbnail(image)
    assert found is not None
    return found


LEUKOCYTE = (320, 240, 45, 60)
ONE = thumb(LEUKOCYTE, (120, 120, 24, 170), (500, 100, 24, 170), (520, 380, 24, 170))
OTHER = thumb(LEUKOCYTE, (150, 390, 24, 170), (420, 60, 24, 170), (560, 240, 24, 170))


def test_what_lies_beside_the_strongest_structure_tells_two_fields_apart() -> None:
    same, share = beside(ONE, ONE, Pose(0, 0, 0))
    assert same == pytest.approx(1, abs=1e-3)
    assert 0.05 < share < 0.9
    assert beside(ONE, OTHER, Pose(0, 0, 0))[0] < 0.3


def test_what_lies_apart_has_nothing_beside() -> None:
    assert beside(ONE, ONE, Pose(1000, 0, 0)) == (-1.0, 0.0)


def test_what_lies_beside_all_that_is_common_tells_dust_from_a_stage_that_rests() -> None:
    dust = [(60 + 130 * i, 90 + 140 * j, 9, 60) for i in range(5) for j in range(3)]
    first = thumb(*dust, (100, 160, 24, 170), (250, 300, 24, 170), (480, 160, 24, 170))
    moved = thumb(*dust, (130, 300, 24, 170), (370, 160, 24, 170), (500, 310, 24, 170))
    own, share = beside_common(first, moved, Pose(0, 0, 0))
    assert own < 0.3
    assert share > 0.09
    assert beside_common(first, first, Pose(0, 0, 0))[1] < 0.05
    assert beside_common(first, first, Pose(1000, 0, 0)) == (1.0, 0.0)


def test_a_texture_that_repeats_itself_fits_nowhere() -> None:
    y, x = np.mgrid[:480, :640]
    stripes = np.repeat((150 + 60 * np.sin(x / 9) * np.sin(y / 9)).astype(np.uint8)[..., None], 3, axis=2)
    first, moved = thumbnail(stripes), thumbnail(np.roll(stripes, 40, axis=1))
    assert first is not None
    assert moved is not None
    assert register(first, moved, 0.0, 0.3) is None
