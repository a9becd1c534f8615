import numpy as np
import pytest

from edge.cells import Box
from edge.preprocess import CONTEXT, crop, sharpness


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
