from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edge.cells import Image
from edge.demo import DemoSource
from edge.light import Light, glass
from edge.pipeline import see
from edge.quality import Inspector
from edge.ruler import RED_CELL_UM, red_cell_px

SIZE = (240, 320)


def falling(percent: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Light that is so much weaker in the corners, shape (height, width)."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij")
    return 1 - percent / 200 * (x**2 + y**2)


def film(light: np.ndarray, frames: int = 40, cells: int = 60) -> Iterator[Image]:
    """Round cells on glass, another place of the slide in each frame."""
    rng = np.random.default_rng(0)
    for _ in range(frames):
        image = np.full((*light.shape, 3), 225.0)
        for x, y in rng.uniform(0, light.shape[::-1], (cells, 2)):
            cv2.circle(image, (int(x), int(y)), 12, (200, 150, 160), -1)
        yield np.clip(image * light[..., None] + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def learned(frames: Iterator[Image]) -> Light:
    light = Light()
    for image in frames:
        light.learn(glass(image[::2, ::2, 1]))
    return light


@pytest.mark.parametrize("percent", [12, 25, 40])
def test_the_course_of_the_light_is_found(percent: float) -> None:
    light = learned(film(falling(percent)))
    shade = light.shade(SIZE)
    assert shade is not None
    assert np.abs(shade / shade.max() - falling(percent)).max() < 0.03
    (bare,) = film(falling(percent), 1, 0)
    assert bare[120, 160].mean() - bare[:8, :8].mean() > 2 * percent
    even = light.even(bare)
    assert abs(even[120, 160].mean() - even[:8, :8].mean()) < 6


def test_a_round_fall_in_a_long_picture_is_found() -> None:
    height, width = SIZE
    y, x = np.mgrid[:height, :width] + 0.5
    fall = 1 - 0.3 * np.hypot(x - width / 2, y - height / 2) ** 2 / np.hypot(width / 2, height / 2) ** 2
    shade = learned(film(fall)).shade(SIZE)
    assert shade is not None
    assert np.abs(shade / shade.max() - fall / fall.max()).max() < 0.02


def test_even_light_is_left_alone() -> None:
    light = learned(film(falling(3)))
    (image,) = film(falling(3), 1)
    assert light.shade(SIZE) is None
    assert light.even(image) is image
    assert light.darkest > 0.95


def test_before_it_is_known_nothing_is_taken_out() -> None:
    light = learned(film(falling(30), 4))
    (image,) = film(falling(30), 1)
    assert light.even(image) is image
    assert light.darkest == 1


def test_what_always_covers_a_part_is_no_shade() -> None:
    frames = list(film(falling(20)))
    for image in frames:
        image[-70:, -90:] //= 3
    shade = learned(iter(frames)).shade(SIZE)
    assert shade is not None
    assert np.abs(shade / shade.max() - falling(20)).max() < 0.05


def test_a_view_at_which_the_stage_rests_is_no_light() -> None:
    (image,) = film(falling(0), 1)
    image[:, :140] -= 60  # thicker on this side
    light = learned(iter(60 * [image]))
    assert light.even(image) is image


def test_what_shines_is_no_glass() -> None:
    frames = list(film(falling(20)))
    for image in frames:
        image[-24:] = image[:, :18] = 255  # a tool bar, a frame
    assert learned(iter(frames)).darkest > 0.77, "nothing, or the light"


def test_of_a_frame_without_glass_nothing_is_learned() -> None:
    frames = list(film(falling(0), 40, 900))
    assert learned(iter(frames)).darkest > 0.95


def test_a_dark_beginning_is_forgotten() -> None:
    inspector, fall = Inspector(RED_CELL_UM / 24, steady=True), falling(20)
    stray = np.linspace(0, 6, SIZE[1])[None, :, None] + np.random.default_rng(3).normal(0, 2, (*SIZE, 3))
    for _ in range(40):
        assert inspector.inspect(np.clip(stray, 0, 255).astype(np.uint8)).refused
    verdicts = [inspector.inspect(image) for image in film(fall)]
    assert {v.refused for v in verdicts[1:]} == {None}
    assert inspector.light.darkest == pytest.approx(0.8, abs=0.03)


def test_exposure_may_change_from_frame_to_frame() -> None:
    gains = np.random.default_rng(1).uniform(0.7, 1.1, 40)
    frames = zip(film(falling(25)), gains, strict=True)
    light = learned(np.asarray(image * gain, np.uint8) for image, gain in frames)
    assert light.darkest == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("size", [(4, 400), (1, 1), (700, 6)])
def test_a_strip_does_no_harm(size: tuple[int, int]) -> None:
    light = learned(iter(6 * [np.full((*size, 3), 200, np.uint8)]))
    assert light.darkest > 0.99


def test_shaded_corners_are_no_red_cells() -> None:
    """The ruler must not grow with them: sharp cells were missed for it, and blurred ones let through."""
    plain, shaded, raw = [], [], []
    fall = falling(25, (480, 640))[..., None]
    even, uneven = Inspector(steady=True), Inspector(steady=True)
    for frame, _ in zip(DemoSource(pace=False).frames(), range(60), strict=False):
        dark = np.asarray(frame.image * fall, np.uint8)
        plain.append(red_cell_px(see(frame, even)[0].image))
        shaded.append(red_cell_px(see(type(frame)(0, 0.0, dark), uneven)[0].image))
        raw.append(red_cell_px(dark))
    usual = np.median(plain[10:])
    assert np.median(shaded[10:]) == pytest.approx(usual, rel=0.08)
    assert np.median(raw[10:]) > 1.3 * usual
