import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edge.cells import Frame, Image, Skip
from edge.errors import UserError
from edge.rim import find_rim, rectangle, within_rim

GLASS, NUCLEUS = (225, 215, 200), (95, 60, 140)


def picture(*, cell: tuple[int, int] = (80, 60), radius: float | None = None, light: float = 1.0) -> Image:
    """A cell on glass, 320x240; `radius` of a round view, as a share of the height."""
    image = np.full((240, 320, 3), GLASS, np.uint8)
    cv2.circle(image, cell, 25, NUCLEUS, -1)
    if radius:
        mask = cv2.circle(np.zeros((240, 320), np.uint8), (160, 120), round(radius * 240), 1, -1)
        image *= mask[..., None]
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    return np.clip(light * image + noise, 0, 255).astype(np.uint8)


def film(*images: Image) -> Iterator[Frame]:
    for index, image in enumerate(images):
        yield Frame(index, index / 10, image)


def seen(*images: Image) -> list[Frame]:
    frames = list(within_rim(film(*images)))
    assert [frame.index for frame in frames if isinstance(frame, Frame)] == list(range(len(images)))
    return [frame for frame in frames if isinstance(frame, Frame)]


@pytest.mark.parametrize("radius", [0.5, 0.55, 0.6, 0.64])
def test_a_round_view_is_cut_to_a_rectangle_without_its_rim(radius: float) -> None:
    view = picture(cell=(160, 120), radius=radius)
    frames = seen(*[view] * 5)
    height, width = frames[0].image.shape[:2]
    assert frames[0].corner is not None
    (x, y), reach = frames[0].corner, radius * 240
    assert {(frame.image.shape, frame.corner) for frame in frames} == {((height, width, 3), (x, y))}
    assert np.array_equal(frames[4].image, view[y : y + height, x : x + width])
    assert frames[4].image.max(axis=2).min() > 100, "nothing of the rim is left"
    largest = 2 * reach**2 if reach < 120 * math.sqrt(2) else 240 * 2 * math.sqrt(reach**2 - 120**2)
    assert height * width > 0.75 * largest


def test_a_picture_without_a_rim_is_the_same() -> None:
    for image in (picture(), picture(cell=(0, 0)), picture(radius=0.9)):
        frames = seen(image, image, image, image)
        assert all(frame.image is image for frame in frames)


def test_what_does_not_stay_is_no_rim() -> None:
    torn = picture(radius=0.55)
    frames = seen(torn, *[picture()] * 4)
    assert all(frame.image.shape == (240, 320, 3) for frame in frames)


def test_the_dark_before_the_lamp_is_on_tells_nothing() -> None:
    dark, lit = picture(radius=0.55, light=0.1), picture(radius=0.55)
    assert find_rim(dark) is None
    frames = seen(dark, dark, lit, lit, lit, lit)
    assert [frame.corner is None for frame in frames] == [True] * 2 + [False] * 4


def test_a_camera_is_cut_as_before() -> None:
    dark, lit = picture(radius=0.55, light=0.1), picture(radius=0.55)
    (height, width), corner = seen(lit, lit, lit)[0].image.shape[:2], seen(lit, lit, lit)[0].corner
    again = list(within_rim(film(dark, lit, lit, lit), (width + 4, height - 2)))
    assert [frame.image.shape for frame in again if isinstance(frame, Frame)] == [
        (height - 2, width + 4, 3)
    ] * 4
    assert isinstance(again[3], Frame)
    assert corner is not None
    assert again[3].corner == (corner[0] - 2, corner[1] + 1)
    for size in ((2 * width, height), (width // 2, height), (1000, 1000)):  # another camera's
        frame = list(within_rim(film(lit, lit, lit), size))[2]
        assert isinstance(frame, Frame)
        assert frame.image.shape == (height, width, 3)
    plain = list(within_rim(film(*[picture()] * 3), (width, height)))[2]
    assert isinstance(plain, Frame)
    assert plain.image.shape == (240, 320, 3)


def test_a_short_film_and_what_could_not_be_had_come_through() -> None:
    frame, skip = Frame(0, 0.0, picture(radius=0.55)), Skip(1, 1, "torn")
    assert list(within_rim([frame, skip])) == [frame, skip]
    cut = list(within_rim([frame, skip, frame, frame, skip]))
    assert [isinstance(f, Skip) for f in cut] == [False, True, False, False, True]
    assert isinstance(cut[0], Frame)
    assert cut[0].corner is not None


def test_another_size_begins_anew() -> None:
    small = cv2.resize(picture(radius=0.55), (160, 120))
    frames = seen(small, *[picture(radius=0.55)] * 4)
    assert frames[0].image.shape == (120, 160, 3)
    assert frames[4].corner is not None


def test_almost_nothing_within_a_rim_is_left_to_the_gates() -> None:
    view = picture(cell=(0, 0), radius=0.17)
    rim = find_rim(view)
    assert rim is not None
    assert rectangle(rim, view.shape) is None
    assert all(frame.image is view for frame in seen(view, view, view))


def test_what_comes_from_one_side_is_no_rim() -> None:
    objective = picture(cell=(60, 120))
    objective[:, 200:] = 3
    assert all(frame.image is objective for frame in seen(*[objective] * 5))


def test_whole_frames_of_a_specimen_stay_whole() -> None:
    view = picture(radius=0.55)
    assert all(
        isinstance(frame, Frame) and frame.image is view
        for frame in within_rim(film(*[view] * 5), (320, 240))
    )


def test_what_a_source_gave_before_it_broke_off_comes_through() -> None:
    def broken() -> Iterator[Frame | Skip]:
        yield Frame(0, 0.0, picture())
        yield Skip(1, 1, "torn")
        raise UserError("the cable is out")

    came = []
    with pytest.raises(UserError, match="the cable is out"):  # noqa: PT012
        for frame in within_rim(broken()):
            came.append(frame)
    assert len(came) == 2
