from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box
from edge.quality import Inspector
from edge.void import cuts, fill, filled, within_frame

GLASS, NUCLEUS = (225, 215, 200), (95, 60, 140)


@pytest.fixture
def picture() -> np.ndarray:
    """A cell on glass, with noise."""
    image = np.full((120, 160, 3), GLASS, np.uint8)
    cv2.circle(image, (80, 60), 25, NUCLEUS, -1)
    return np.clip(image + np.random.default_rng(0).normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def test_a_picture_without_black_is_left_alone(picture: np.ndarray) -> None:
    assert filled(picture) is picture


@pytest.mark.parametrize("quality", [None, 60])
def test_the_corners_of_a_turned_picture_become_glass(picture: np.ndarray, quality: int | None) -> None:
    turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D((80, 60), 30, 1), (160, 120))
    if quality is not None:  # JPEG leaves no black at 0
        _, data = cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, quality])
        turned = cv2.imdecode(data, cv2.IMREAD_COLOR)
    whole = filled(turned)
    assert (whole.max(axis=2) < 60).mean() < 1e-3
    assert np.median(whole[:10, :10], axis=(0, 1)) == pytest.approx(GLASS, abs=8)
    assert np.array_equal(whole[50:70, 70:90], turned[50:70, 70:90])


def test_black_inside_the_picture_is_a_stain(picture: np.ndarray) -> None:
    cv2.circle(picture, (80, 60), 10, (5, 0, 8), -1)
    picture[:30] = 0
    whole = filled(picture)
    assert (whole[55:65, 75:85] < 10).all()
    assert whole[:30].min() > 200


@pytest.mark.parametrize("colour", [(24, 22, 20), (114, 114, 114), (180, 150, 140)])
@pytest.mark.parametrize("quality", [None, 90])
def test_a_dark_rim_and_a_plain_frame_become_glass(
    picture: np.ndarray, colour: tuple[int, int, int], quality: int | None
) -> None:
    framed = cv2.copyMakeBorder(picture, 20, 20, 0, 0, cv2.BORDER_CONSTANT, value=colour)
    if quality is not None:
        _, data = cv2.imencode(".jpg", framed, [cv2.IMWRITE_JPEG_QUALITY, quality])
        framed = cv2.imdecode(data, cv2.IMREAD_COLOR)
    whole = filled(framed)
    assert np.median(whole[:15], axis=(0, 1)) == pytest.approx(GLASS, abs=8)
    assert np.array_equal(whole[40:120], framed[40:120])


@pytest.mark.parametrize(
    ("colour", "quality"),
    [
        ((255, 255, 255), None),
        ((255, 255, 255), 85),
        ((245, 245, 245), 60),
        ((0, 0, 0), None),
        ((0, 0, 0), 75),
    ],
)
@pytest.mark.parametrize("sides", [(300, 90, 70, 200), (0, 0, 40, 0), (57, 203, 21, 130)])
def test_a_picture_is_seen_without_the_plain_frame_around_it(
    picture: np.ndarray, colour: tuple[int, ...], sides: tuple[int, ...], quality: int | None
) -> None:
    framed = cv2.copyMakeBorder(picture, *sides, cv2.BORDER_CONSTANT, value=colour)
    if quality is not None:
        _, data = cv2.imencode(".jpg", framed, [cv2.IMWRITE_JPEG_QUALITY, quality])
        framed = cv2.imdecode(data, cv2.IMREAD_COLOR)
    shown, corner = within_frame(framed)
    assert corner is not None
    left, top = corner
    assert np.array_equal(shown, framed[top : top + shown.shape[0], left : left + shown.shape[1]])
    # JPEG mixes up to a block of the frame with the picture, whatever its margins are.
    assert shown.shape == pytest.approx(picture.shape, abs=0 if quality is None else 8)
    assert (left, top) == pytest.approx((sides[2], sides[0]), abs=0 if quality is None else 8)


def test_glass_that_is_burnt_out_is_no_frame(picture: np.ndarray) -> None:
    burnt = np.where(picture.mean(axis=2, keepdims=True) > 180, 255, picture).astype(np.uint8)
    assert (burnt[:30] == 255).all()
    for image in (burnt, np.full_like(picture, 255), picture):
        assert within_frame(image)[0].shape == image.shape
        assert within_frame(image)[1] is None


def test_a_real_nucleus_on_burnt_glass_is_no_framed_picture(shared_data: Path) -> None:
    file = shared_data / "cells" / "pbc" / "erythroblast" / "ERB_264104.jpg"
    image = cv2.imread(str(file))
    small = cv2.resize(image, (90, 90), interpolation=cv2.INTER_AREA)
    burnt = np.clip(small * 1.7, 0, 255).astype(np.uint8)
    assert within_frame(burnt)[1] is None


def test_halves_a_speck_and_a_line_are_no_framed_picture() -> None:
    halves, speck, line = (np.full((200, 300, 3), 230, np.uint8) for _ in range(3))
    halves[100:], speck[120, 80], line[:, 40] = 90, 0, 0
    for image in (halves, halves.transpose(1, 0, 2), speck, line, halves[99:101, :2], halves[:1]):
        assert within_frame(image)[0].shape == image.shape


def round_view(cell: int, radius: int = 100) -> np.ndarray:
    """A cell, its middle `cell` pixels from the left, in the round view of an eyepiece."""
    y, x = np.ogrid[:220, :260]
    away = np.hypot(x - 130, y - 110)
    image = np.empty((220, 260, 3), np.uint8)
    image[:] = GLASS
    cv2.circle(image, (cell, 110), 25, NUCLEUS, -1)
    light = (1 - 0.3 * (away / radius) ** 2) * (away < radius)
    return np.asarray(cv2.GaussianBlur((image * light[..., None]).astype(np.uint8), (0, 0), 1), np.uint8)


@pytest.mark.parametrize(("cell", "cut"), [(38, True), (62, False), (130, False), (225, True)])
def test_a_cell_that_ends_where_the_picture_does_is_cut(cell: int, cut: bool) -> None:
    image, empty = fill(round_view(cell))
    assert empty is not None
    assert cuts(empty, image, Box(cell - 26, 84, 52, 52)) == cut


@pytest.mark.parametrize(("cell", "radius"), [(130, 23), (140, 28)])
def test_a_cell_that_was_cut_out_is_whole(cell: int, radius: int) -> None:
    image, empty = fill(round_view(cell, radius)[60:160, 80:180])
    assert empty is not None
    assert not cuts(empty, image, Box(50 - radius, 50 - radius, 2 * radius, 2 * radius))


@pytest.mark.parametrize("turn", range(4))
def test_a_cell_beside_one_that_is_cut_is_whole(turn: int) -> None:
    image, empty = np.full((200, 200, 3), GLASS, np.uint8), np.zeros((200, 200), bool)
    image[100:140, 40:80] = image[120:150, 88:128] = NUCLEUS
    empty[150:] = True
    image, empty = np.rot90(image, turn), np.rot90(empty, turn)
    boxes = [Box(40, 100, 40, 40), Box(88, 120, 40, 30)]
    for _ in range(turn):  # a quarter to the left
        boxes = [Box(box.y, 200 - box.x - box.width, box.height, box.width) for box in boxes]
    assert [cuts(empty, image, box) for box in boxes] == [False, True]


@pytest.mark.parametrize("glass", [(255, 255, 200), (240, 235, 230)])
def test_plain_glass_is_no_frame(glass: tuple[int, int, int]) -> None:
    image = np.full((120, 160, 3), glass, np.uint8)
    cv2.circle(image, (80, 60), 25, NUCLEUS, -1)
    image = cv2.GaussianBlur(image, (0, 0), 4)
    assert filled(image) is image


def test_a_black_image_with_a_bright_spot_is_still_refused() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:220, 200:220] = GLASS
    assert Inspector(steady=False).inspect(filled(image)).refused


@pytest.mark.parametrize("light", [0, 40])
def test_a_dark_picture_is_not_lit(light: int) -> None:
    image = np.full((60, 60, 3), light, np.uint8)
    image[:20] = 0
    assert np.array_equal(filled(image), image)
