from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box, Image
from edge.errors import UserError
from training import data
from training.corruptions import KINDS, corrupt
from training.framing import single_cell_box

BOX = Box(40, 30, 80, 76)
FIXED_SIZE = [kind for kind in KINDS if kind != "scale"]


@pytest.fixture
def image() -> Image:
    """A made cell: tinted background, pale body, dark lobed nucleus, granules."""
    rng = np.random.default_rng(0)
    picture = np.full((140, 160, 3), (228, 218, 205), np.uint8)
    cv2.circle(picture, (80, 68), 36, (200, 170, 190), -1)
    cv2.circle(picture, (70, 60), 13, (95, 60, 140), -1)
    cv2.circle(picture, (88, 76), 14, (95, 60, 140), -1)
    for x, y in rng.integers((52, 40), (108, 96), (60, 2)).tolist():
        cv2.circle(picture, (x, y), 1, (170, 90, 120), -1)
    uneven = cv2.GaussianBlur(picture, (0, 0), 0.8) + rng.normal(0, 3, picture.shape)
    return np.clip(uneven, 0, 255).astype(np.uint8)


def every_level(kind: str) -> list[int]:
    return list(range(1, len(KINDS[kind].amounts)))


def damage(image: Image, kind: str, level: int, seed: int = 5) -> float:
    """Mean difference from the image, in grey levels; a smaller picture is enlarged first."""
    spoiled, _ = corrupt(image, BOX, kind, level, np.random.default_rng(seed))
    back = cv2.resize(spoiled, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return float(np.abs(back.astype(float) - image).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_graded_and_one_of_them_is_the_careless_one(kind: str) -> None:
    fault = KINDS[kind]
    assert len(fault.amounts) in (5, 6)
    assert 0 < fault.careless < len(fault.amounts) - 1
    assert list(fault.amounts) in (sorted(fault.amounts), sorted(fault.amounts, reverse=True))
    assert fault.unit
    assert fault.apply.__doc__ is not None
    assert "areless" in fault.apply.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_level_0_is_the_image_itself(image: Image, kind: str) -> None:
    before = image.copy()
    same, box = corrupt(image, BOX, kind, 0, np.random.default_rng(1))
    assert np.array_equal(same, before)
    assert box == BOX


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "rotation"])
@pytest.mark.parametrize("seed", [0, 2])  # one for each direction
def test_each_level_does_more_harm_than_the_last(image: Image, kind: str, seed: int) -> None:
    harm = [damage(image, kind, level, seed) for level in range(len(KINDS[kind].amounts))]
    assert all(harder > 1.02 * milder for milder, harder in pairwise(harm)), harm


@pytest.mark.parametrize("level", every_level("rotation"))
def test_a_rotation_turns_by_its_angle_about_the_cell(level: int) -> None:
    picture = np.full((140, 160, 3), 255, np.uint8)
    # The centre of a box, counted in pixel indices: a pixel's middle lies half a pixel from its edge.
    x, y = (c - 0.5 for c in BOX.centre)
    cv2.circle(picture, (round(x) + 30, round(y)), 5, (0, 0, 0), -1)
    turned, box = corrupt(picture, BOX, "rotation", level, np.random.default_rng(0))
    rows, columns = np.nonzero(turned[..., 0] < 128)
    near = np.hypot(columns - x, rows - y) < 40
    angle = np.degrees(np.arctan2(rows[near].mean() - y, columns[near].mean() - x))
    assert abs(angle) == pytest.approx(KINDS["rotation"].amounts[level], abs=2)
    assert np.hypot(rows[near].mean() - y, columns[near].mean() - x) == pytest.approx(30, abs=1)
    assert box == BOX


def test_a_half_turn_about_the_middle_is_exact(image: Image) -> None:
    middle = Box(60, 50, 40, 40)
    turned, _ = corrupt(image, middle, "rotation", 5, np.random.default_rng(0))
    assert np.array_equal(turned, image[::-1, ::-1])


@pytest.mark.parametrize("kind", FIXED_SIZE)
def test_the_picture_keeps_size_type_and_cell(image: Image, kind: str) -> None:
    for level in every_level(kind):
        spoiled, box = corrupt(image, BOX, kind, level, np.random.default_rng(1))
        assert spoiled.shape == image.shape
        assert spoiled.dtype == np.uint8
        assert box == BOX


@pytest.mark.parametrize("level", every_level("scale"))
def test_scale_takes_pixels_and_the_box_goes_with_it(image: Image, level: int) -> None:
    small, box = corrupt(image, BOX, "scale", level, np.random.default_rng(1))
    factor = KINDS["scale"].amounts[level]
    assert small.shape[:2] == (round(140 * factor), round(160 * factor))
    assert box.side == pytest.approx(BOX.side * factor, abs=1)
    assert box.centre == pytest.approx([c * factor for c in BOX.centre], abs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_random_state_gives_the_same_picture(image: Image, kind: str) -> None:
    first, second = (corrupt(image, BOX, kind, 3, np.random.default_rng(7))[0] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", ["warmth", "gain", "hue", "gamma", "rotation"])
def test_both_directions_come_by_chance(image: Image, kind: str) -> None:
    pictures = {corrupt(image, BOX, kind, 3, np.random.default_rng(s))[0].tobytes() for s in range(12)}
    assert len(pictures) == 2


def test_one_stop_doubles_or_halves_linear_light() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    values = {int(corrupt(grey, BOX, "gain", 3, np.random.default_rng(s))[0][0, 0, 0]) for s in range(12)}
    assert values == {92, 176}  # sRGB of 0.108 and 0.432; that of 128 is 0.216


def test_a_warm_lamp_gains_red_and_loses_blue_and_a_cool_one_the_reverse() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    seen = {
        tuple(corrupt(grey, BOX, "warmth", 3, np.random.default_rng(s))[0][0, 0].tolist()) for s in range(12)
    }
    (cool, warm) = sorted(seen)
    assert warm[0] > 128 > warm[2]
    assert cool[0] < 128 < cool[2]
    assert warm[1] == cool[1] == 128


def test_a_turn_of_hue_leaves_grey_alone() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    assert np.array_equal(corrupt(grey, BOX, "hue", 5, np.random.default_rng(0))[0], grey)


def test_noise_has_the_strength_it_says() -> None:
    white = np.full((200, 200, 3), 225, np.uint8)
    level = KINDS["noise"].careless
    noisy = corrupt(white, BOX, "noise", level, np.random.default_rng(0))[0].astype(float) / 255
    light = ((noisy + 0.055) / 1.055) ** 2.4
    share = KINDS["noise"].amounts[level] / 100
    expected = np.sqrt(light.mean() * share**2 + (3 * share**2) ** 2)
    assert light.std() == pytest.approx(expected, rel=0.05)


def test_blur_goes_with_the_cell_and_keeps_the_light(image: Image) -> None:
    """Twice the picture with twice the cell is blurred over twice the pixels."""
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    double = Box(2 * BOX.x, 2 * BOX.y, 2 * BOX.width, 2 * BOX.height)
    one, _ = corrupt(image, BOX, "blur", 5, np.random.default_rng(0))
    two, _ = corrupt(np.asarray(large, np.uint8), double, "blur", 5, np.random.default_rng(0))
    halved = cv2.resize(two, (160, 140), interpolation=cv2.INTER_AREA)
    assert np.abs(halved.astype(float) - one).mean() < 1
    point = np.zeros((41, 41, 3), np.uint8)
    point[18:23, 18:23] = 255
    blurred, _ = corrupt(point, Box(10, 10, 60, 60), "blur", 4, np.random.default_rng(0))
    light = np.where(blurred > 10, ((blurred / 255 + 0.055) / 1.055) ** 2.4, blurred / 255 / 12.92)
    assert light.sum() == pytest.approx(75, rel=0.03)


def test_a_wrong_kind_or_level_is_told(image: Image) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="'smoke' is unknown; use one of rotation"):
        corrupt(image, BOX, "smoke", 1, rng)
    for level in (-1, 6):
        with pytest.raises(UserError, match=f"no level {level}; use 0 to 5"):
            corrupt(image, BOX, "blur", level, rng)


@pytest.mark.parametrize("kind", KINDS)
def test_the_instrument_still_finds_the_cell_of_a_careless_picture(shared_data: Path, kind: str) -> None:
    """Readable means at least that the cell is found where it was, in nine of ten."""
    table = [s for s in data.load(shared_data) if s.split == "test" and s.name != "platelet"]
    found = 0
    for number, sample in enumerate(chosen := table[::60]):
        picture = data.read_image(sample.path)
        box = single_cell_box(picture)
        spoiled, expected = corrupt(
            picture, box, kind, KINDS[kind].careless, np.random.default_rng((3, number))
        )
        seen = single_cell_box(spoiled)
        found += np.hypot(*np.subtract(seen.centre, expected.centre)) < 0.25 * expected.side
    assert found >= 0.9 * len(chosen)
