import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box, Cell, Image
from edge.errors import UserError
from edge.mosaic import GROUND, MOST_BYTES, MapView, Mosaic, write_map
from edge.pose import Pose

RNG = np.random.default_rng(0)
SLIDE = cv2.GaussianBlur(
    cv2.resize(RNG.integers(60, 250, (60, 80, 3), np.uint8), (3200, 2400), interpolation=cv2.INTER_CUBIC),
    (0, 0),
    3,
)


def frame(pose: Pose, size: tuple[int, int] = (640, 480)) -> Image:
    """What the camera sees of the slide there."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    to_slide = np.array([[cos, -sin, pose.x], [sin, cos, pose.y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(SLIDE, to_slide, size, flags=flags), np.uint8)


def cell(number: int, x: float, y: float) -> Cell:
    shares = np.array([0.1, 0.9], np.float32)
    return Cell(number, "b", 0.9, shares, 0.1, 3, Box(0, 0, 90, 90), (x, y), False, b"", shares)


def slide_part(view: MapView) -> Image:
    """What the whole map should show."""
    height, width = view.image.shape[:2]
    left, top = view.origin
    bottom, right = top + height * view.scale, left + width * view.scale
    part = SLIDE[round(top) : round(bottom), round(left) : round(right)]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def difference(view: MapView) -> float:
    """Mean difference to the slide where something was seen, grey levels."""
    seen = (view.image != np.array(GROUND)).any(axis=2)
    return float(np.abs(view.image[seen].astype(int) - slide_part(view)[seen]).mean())


def test_the_map_shows_the_slide() -> None:
    mosaic = Mosaic()
    for x in range(400, 1900, 90):
        pose = Pose(x + 0.4, 300 + x / 10, 0.0)
        mosaic.add(frame(pose), pose, monolayer=True)
    view = mosaic.view([])
    assert view is not None
    assert view.scale == 8
    assert difference(view) < 2.5
    assert view.origin == (pytest.approx(400, abs=8), pytest.approx(340, abs=8))


def test_a_turned_frame_lies_where_it_was_seen() -> None:
    mosaic = Mosaic()
    pose = Pose(1500, 500, 0.5)
    mosaic.add(frame(pose), pose, monolayer=True)
    view = mosaic.view([])
    assert view is not None
    assert difference(view) < 4
    assert view.coverage.seen_share < 0.6
    assert view.coverage.area_px == pytest.approx(640 * 480, rel=0.03)


def test_a_frame_left_of_the_first_one_fits() -> None:
    mosaic = Mosaic()
    for x in (0.0, -500.0, -1000.0):
        mosaic.add(frame(Pose(x + 1500, 700, 0)), Pose(x, -700, 0), monolayer=True)
    view = mosaic.view([])
    assert view is not None
    assert view.origin == (-1000, -704)
    assert view.place(0, 0) == (125, 88)


def test_an_hour_of_film_stays_within_its_memory() -> None:
    mosaic = Mosaic(most_bytes=2**20)
    image = frame(Pose(500, 500, 0))
    # 40 rows of 40,000 pixels: at 15 pixels a frame and 30 frames a second an hour's way.
    for row in range(40):
        for x in range(0, 40_000, 500):
            mosaic.add(image, Pose(x if row % 2 else 40_000 - x, 400 * row, 0), monolayer=True)
            assert mosaic.bytes <= 2**20
    view = mosaic.view([])
    assert view is not None
    assert view.scale > 8
    assert max(view.image.shape[:2]) <= 1024
    assert view.coverage.seen_share > 0.97
    assert view.coverage.area_px == pytest.approx(40_500 * 16_080, rel=0.03)
    assert Mosaic()._most * 64 * 64 * 4 == MOST_BYTES


def test_frames_on_a_long_diagonal_do_not_ask_for_the_square() -> None:
    mosaic = Mosaic(most_bytes=2**21)
    image = frame(Pose(500, 500, 0))
    for step in range(0, 400_000, 2_000):
        mosaic.add(image, Pose(step, step, 0), monolayer=True)
    view = mosaic.view([])
    assert view is not None
    assert max(view.image.shape[:2]) <= 1024


def test_standing_still_costs_nothing() -> None:
    mosaic = Mosaic()
    image = frame(Pose(0, 0, 0))
    for _ in range(3):
        mosaic.add(image, Pose(0, 0, 0), monolayer=True)
    assert mosaic.version == 1
    mosaic.add(image, Pose(30, 0, 0), monolayer=True)
    assert mosaic.version == 1
    mosaic.add(image, Pose(90, 0, 0), monolayer=True)
    assert mosaic.version == 2


def test_coverage_tells_the_monolayer() -> None:
    mosaic = Mosaic()
    image = frame(Pose(0, 0, 0))
    mosaic.add(image, Pose(0, 0, 0), monolayer=True)
    mosaic.add(image, Pose(1280, 0, 0), monolayer=False)
    view = mosaic.view([])
    assert view is not None
    assert view.coverage.facts(2, 0.1) == {
        "fields": 2,
        "mm2": pytest.approx(0.00614, abs=1e-4),
        "seen_share": pytest.approx(2 / 3, abs=0.01),
        "monolayer_share": pytest.approx(0.5, abs=0.01),
    }
    assert view.coverage.facts(2, None)["mm2"] is None


def test_the_coverage_of_a_long_row_is_that_of_its_frames() -> None:
    mosaic = Mosaic()
    image = frame(Pose(0, 0, 0))
    for x in range(0, 200 * 320, 320):
        mosaic.add(image, Pose(x, 100, 0), monolayer=True)
    view = mosaic.view([])
    assert view is not None
    assert view.scale > 16, "the picture is much coarser than the map"
    assert view.coverage.area_px == pytest.approx((200 * 320 + 320) * 480, rel=0.02)
    assert view.coverage.monolayer_share == 1


def test_stored_tiles_make_the_map_again() -> None:
    mosaic = Mosaic(most_bytes=2**18)
    stored = {}
    scales = set()
    for x in range(0, 2500, 300):
        for y in range(0, 1900, 300):
            mosaic.add(frame(Pose(x, y, 0)), Pose(x, y, 0), monolayer=True)
            for tile in mosaic.take_changed():
                if tile.scale not in scales:
                    scales.add(tile.scale)
                    stored.clear()
                stored[tile.column, tile.row] = tile
    assert len(scales) > 1
    again = Mosaic(stored.values()).view([])
    whole = mosaic.view([])
    assert again is not None
    assert whole is not None
    assert np.array_equal(again.image, whole.image)
    assert (again.origin, again.scale) == (whole.origin, whole.scale)
    assert mosaic.take_changed() == []


def test_cells_are_drawn_where_they_lie(tmp_path: Path) -> None:
    mosaic = Mosaic()
    mosaic.add(np.full((480, 640, 3), 200, np.uint8), Pose(0, 0, 0), monolayer=True)
    write_map(tmp_path / "map.png", mosaic, [cell(57, 320, 240)], ["a", "b"])
    picture = cv2.imread(str(tmp_path / "map.png"), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    assert picture.shape == (120, 160, 3)
    # Middle at 80, 60; radius 90 / 8 = 11: the ring in the second colour.
    assert picture[60, 69].tolist() == [0xE6, 0x9F, 0x00]
    assert picture[60, 80].tolist() == [200, 200, 200]


def test_without_a_placed_frame_there_is_no_map(tmp_path: Path) -> None:
    assert Mosaic().view([]) is None
    with pytest.raises(UserError, match="no map: no frame fit"):
        write_map(tmp_path / "map.png", Mosaic(), [], [])


def test_a_map_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    mosaic = Mosaic()
    mosaic.add(np.full((480, 640, 3), 200, np.uint8), Pose(0, 0, 0), monolayer=True)
    with pytest.raises(UserError, match="--map names another file"):
        write_map(tmp_path / "nowhere" / "map.png", mosaic, [], [])
