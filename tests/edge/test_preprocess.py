import cv2
import numpy as np
import pytest

from edge.cells import Box
from edge.preprocess import CONTEXT, crop, sharpness

GLASS, DARK = (230, 215, 200), (90, 40, 120)


def gradient(height: int, width: int) -> np.ndarray:
    """An image whose red value is its column and whose green value is its row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


def test_a_crop_at_its_own_size_is_cut_without_resampling() -> None:
    side = 60
    box = Box(70, 50, side / CONTEXT, side / CONTEXT)
    image = gradient(200, 200)
    left, top = (round(c - side / 2) for c in box.centre)
    assert np.array_equal(crop(image, box, side), image[top : top + side, left : left + side])


@pytest.mark.parametrize("box", [Box(0, 0, 20, 20), Box(180, 180, 20, 20), Box(-5, 90, 40, 30)])
def test_beyond_the_border_the_edge_is_repeated(box: Box) -> None:
    view = crop(gradient(200, 200), box, 224)
    assert view.shape == (224, 224, 3)
    middle = view[112, 112, :2].astype(int)
    assert middle == pytest.approx(np.clip(box.centre, 0, 199), abs=2)


def beside_the_border(gap: int, side: int = 100) -> np.ndarray:
    """Glass with a dark cell, 60 pixels across, that begins `gap` pixels right of the left border."""
    image = np.full((side, side, 3), GLASS, np.uint8)
    image[20:80, gap : gap + 60] = DARK
    image[0] = 255  # one bright line is no glass
    return image


def test_a_cell_at_the_border_of_its_image_is_not_drawn_out() -> None:
    view = crop(beside_the_border(0), Box(0, 20, 60, 60), 90)
    assert (view[20:70, :8] == GLASS).all()  # beyond the border, a tenth of the view away
    assert (view[20:70, 16:74] == DARK).all()


def test_a_cell_at_the_border_of_a_field_is_repeated_as_ever() -> None:
    view = crop(beside_the_border(0, 150), Box(0, 20, 60, 60), 90)
    assert (view[20:70, :74] == DARK).all()


def test_a_tight_image_is_laid_on_its_glass() -> None:
    image = np.full((60, 60, 3), DARK, np.uint8)
    for rows in (slice(0, 12), slice(48, 60)):  # a round cell leaves glass in the corners
        for columns in (slice(0, 12), slice(48, 60)):
            image[rows, columns] = GLASS
    view = crop(image, Box(0, 0, 60, 60), 90)
    border = np.concatenate([view[:6].reshape(-1, 3), view[:, -6:].reshape(-1, 3)])
    assert (border == GLASS).all()


def test_beside_a_cell_well_inside_the_edge_is_repeated_as_it_is() -> None:
    image = beside_the_border(6)
    image[:, 0] = DARK  # a red cell there, say
    view = crop(image, Box(6, 20, 60, 60), 90)
    assert (view[:, :9] == DARK).all()


@pytest.mark.parametrize(
    "box", [Box(300, 90, 20, 20), Box(90, 300, 20, 20), Box(-100, 90, 20, 20), Box(90, -100, 0, 0)]
)
def test_a_box_outside_the_image_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="lies outside the image of 200 x 150 pixels"):
        crop(gradient(150, 200), box, 224)


def test_a_long_box_is_not_distorted() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[100:200, 140:160] = 255
    view = crop(image, Box(140, 100, 20, 100), 150)
    assert view[..., 0].any(axis=1).sum() == pytest.approx(5 * view[..., 0].any(axis=0).sum(), abs=5)


def test_blur_lowers_sharpness() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (64, 64, 3), np.uint8)
    blurred = np.full_like(sharp, 128)
    blurred[::8, ::8] = 140
    assert sharpness(sharp) > sharpness(blurred) > sharpness(np.zeros_like(sharp)) == 0


def test_sharpness_is_that_of_the_focus_not_of_lamp_and_noise() -> None:
    rng = np.random.default_rng(0)
    sheet = np.full((192, 192), 220, np.uint8)
    for x, y in rng.integers(20, 172, (40, 2)):
        cv2.circle(sheet, (int(x), int(y)), 7, int(rng.integers(60, 140)), -1)
    focused = cv2.GaussianBlur(sheet, (0, 0), 0.8).astype(np.float64)
    noise = rng.normal(0, 2.5, sheet.shape)

    def seen(light: np.ndarray) -> float:
        return sharpness(np.repeat(np.clip(light + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2))

    assert seen(0.6 * focused) == pytest.approx(seen(focused), rel=0.15)
    assert seen(cv2.GaussianBlur(focused, (0, 0), 3)) < 0.2 * seen(focused)
