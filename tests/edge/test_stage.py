from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge.cells import Box
from edge.pose import Pose
from edge.stage import Stage


@pytest.fixture(scope="module")
def slide() -> np.ndarray:
    """A random texture with structures of many sizes, (1200, 1600, 3)."""
    rng = np.random.default_rng(3)
    sheet = np.full((1200, 1600), 220, np.uint8)
    for _ in range(1500):
        x, y = (int(v) for v in rng.uniform((0, 0), (1600, 1200)))
        cv2.circle(sheet, (x, y), int(rng.uniform(6, 24)), int(rng.uniform(60, 210)), -1)
    return np.repeat(cv2.GaussianBlur(sheet, (0, 0), 1)[..., None], 3, axis=2)


def film(slide: np.ndarray, x: float, y: float, width: int = 320, height: int = 240) -> np.ndarray:
    return cv2.getRectSubPix(slide, (width, height), (x + width / 2 - 0.5, y + height / 2 - 0.5))


def test_a_walk_is_followed_to_a_pixel(slide: np.ndarray) -> None:
    stage = Stage()
    for step in range(120):
        x, y = 10 + 8.3 * step, 300 + 60 * np.sin(step / 15)
        place = stage.place(film(slide, x, y))
        assert place is not None
        assert (place.x, place.y) == pytest.approx((x - 10, y - 300), abs=2.5)


def test_a_return_after_a_long_way_meets_the_same_place(slide: np.ndarray) -> None:
    stage = Stage()
    way = [(20 + 9 * i, 100) for i in range(130)]
    way += [(way[-1][0], 100 + 9 * i) for i in range(60)]
    way += [(way[-1][0] - 9 * i, way[-1][1]) for i in range(130)]
    way += [(way[-1][0], way[-1][1] - 9 * i) for i in range(60)]
    places = [stage.place(film(slide, x, y)) for x, y in way]
    assert None not in places
    end, (x, y) = places[-1], way[-1]
    assert (end.x, end.y) == pytest.approx((x - 20, y - 100), abs=4)


def sparse(seed: int, red: int = 250) -> np.ndarray:
    """A nearly bare slide: `red` cells in 25 fields, about a leukocyte a field, (1200, 1600, 3)."""
    rng = np.random.default_rng(seed)
    sheet = np.full((1200, 1600), 225, np.uint8)
    for x, y in rng.uniform((0, 0), (1600, 1200), (red, 2)):
        cv2.circle(sheet, (int(x), int(y)), int(rng.integers(8, 15)), int(rng.integers(140, 200)), -1)
    for x in range(160, 1600, 320):
        for y in range(120, 1200, 240):
            aside = rng.integers(-80, 80, 2)
            cv2.circle(sheet, (x + int(aside[0]), y + int(aside[1])), 22, 60, -1)
    return np.repeat(cv2.GaussianBlur(sheet, (0, 0), 1)[..., None], 3, axis=2)


def test_the_camera_does_not_seem_to_turn_above_a_nearly_bare_slide() -> None:
    bare, noise, stage = sparse(6), np.random.default_rng(6), Stage()
    way = [(8 * i, 0) for i in range(120)] + [(952, 8 * i) for i in range(30)]
    way += [(952 - 8 * i, 232) for i in range(120)]
    for x, y in way:
        seen = film(bare, x, y) + noise.normal(0, 2, (240, 320, 3))
        place = stage.place(np.clip(seen, 0, 255).astype(np.uint8))
        assert place is not None
        assert abs(np.degrees(place.angle)) < 0.15
        assert place.to_slide(159.5, 119.5) == pytest.approx((159.5 + x, 119.5 + y), abs=3)


def test_a_field_of_a_nearly_bare_slide_is_not_taken_for_another_by_its_leukocyte() -> None:
    bare = sparse(5)
    stage = Stage()
    places = [stage.place(film(bare, 16 * step, 0)) for step in range(30)]
    assert None not in places
    # A knock, to fields that were never seen.
    assert [stage.place(film(bare, 640 + 40 * i, 720)) for i in range(8)] == [None] * 8
    back = [stage.place(film(bare, 320 + 10 * i, 0)) for i in range(4)]
    assert back[-1] is not None
    assert (back[-1].x, back[-1].y) == pytest.approx((350, 0), abs=3)


def test_what_comes_after_bare_glass_is_not_laid_by_its_leukocyte_alone() -> None:
    bare, glass = sparse(6), np.full((240, 320, 3), 225, np.uint8)
    stage = Stage()
    lone = glass.copy()
    cv2.circle(lone, (150, 120), 22, (60,) * 3, -1)
    assert stage.place(lone) is not None
    moved = np.roll(lone, 12, axis=1)
    assert stage.place(moved) is not None
    assert stage.place(glass) is None
    assert stage.place(np.roll(lone, 24, axis=1)) is None
    assert stage.place(film(bare, 640, 720)) is None


def test_a_stage_that_goes_to_and_fro_makes_no_dust_of_the_slide() -> None:
    bare, stage = sparse(7), Stage()
    for step in range(120):
        x = 200 + 150 * np.sin(step / 6)
        assert stage.place(film(bare, float(x), 300)) is not None
    assert not stage.on_dust(Box(0, 0, 320, 240), (320, 240))


def test_a_frame_of_another_size_does_not_wipe_what_is_known_of_dust(slide: np.ndarray) -> None:
    stage, speck = Stage(), Box(148, 108, 24, 24)
    for step in range(12):
        view = film(slide, 20 + 130 * (step % 9), 100 + 100 * (step // 9))
        cv2.circle(view, (160, 120), 12, (10,) * 3, -1)
        stage.place(view)
    assert stage.on_dust(speck, (320, 240))
    assert stage.place(film(slide, 300, 300, 300, 200)) is None
    assert stage.on_dust(speck, (320, 240))


def test_light_and_focus_do_not_matter(slide: np.ndarray) -> None:
    stage = Stage()
    stage.place(film(slide, 100, 100))
    dim = cv2.GaussianBlur(film(slide, 130, 90), (0, 0), 2.5) * np.linspace(0.5, 0.9, 320)[None, :, None]
    place = stage.place(dim.astype(np.uint8))
    assert place is not None
    assert (place.x, place.y) == pytest.approx((30, -10), abs=2)


def test_dust_does_not_hold_the_stage_where_the_slide_shows_nothing(slide: np.ndarray) -> None:
    dust = np.zeros((240, 320), np.float32)
    rng = np.random.default_rng(7)
    for x, y in rng.uniform((0, 0), (320, 240), (16, 2)):
        cv2.circle(dust, (int(x), int(y)), int(rng.integers(2, 6)), 1.0, -1)
    shade = 60 * cv2.GaussianBlur(dust, (0, 0), 1)[..., None]

    def seen(view: np.ndarray) -> np.ndarray:
        noisy = view.astype(np.float32) - shade + rng.normal(0, 2, view.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    stage = Stage()
    way = [(16 * i, 100) for i in range(75)]
    way += [(1184, 100 + 15 * i) for i in range(20)]
    way += [(1184 - 16 * i, 400) for i in range(75)]
    way += [(0, 400 + 15 * i) for i in range(20)]
    way += [(16 * i, 700) for i in range(50)]
    assert all(stage.place(seen(film(slide, x, y))) for x, y in way)
    bare, shown = np.full((240, 320, 3), 225.0), film(slide, 800, 700)
    for share in np.linspace(0, 1, 30):
        stage.place(seen((1 - share) * shown + share * bare))
    assert not any(stage.place(seen(bare)) for _ in range(10))


def behind_dust(view: np.ndarray, specks: int) -> np.ndarray:
    """Return a view of 320 x 240 pixels as it is seen through optics with dust, with the sensor's noise."""
    rng, seen = np.random.default_rng(11), view.copy()
    for x, y in rng.uniform((15, 15), (305, 225), (specks, 2)):
        cv2.circle(seen, (int(x), int(y)), int(rng.integers(3, 6)), (60,) * 3, -1, cv2.LINE_AA)
    noise = np.random.default_rng(int(view.sum())).normal(0, 2, view.shape)
    return np.clip(seen + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("specks", [20, 60])
def test_a_nearly_bare_slide_moves_behind_dust_and_never_seems_to_rest(specks: int) -> None:
    bare, stage = sparse(5), Stage()
    for x in range(0, 480, 6):
        place = stage.place(behind_dust(film(bare, x, 0), specks))
        # Less than a red cell's width is beneath what can be told from rest.
        assert place is None or abs(place.x - x) < 30


def test_a_sparse_slide_is_followed_once_its_dust_is_known() -> None:
    thin, stage = sparse(5, 450), Stage()
    places = [(x, stage.place(behind_dust(film(thin, x, 0), 20))) for x in range(0, 600, 8)]
    errors = [place.x - x for x, place in places[40:] if place]
    assert len(errors) == len(places[40:])
    assert max(map(abs, errors)) < 12


def test_a_stage_that_rests_behind_dust_keeps_its_place() -> None:
    view, stage = film(sparse(5), 100, 0), Stage()
    for step in range(12):
        blurred = cv2.GaussianBlur(behind_dust(view, 20), (0, 0), 0.5 + 0.25 * step)
        place = stage.place((blurred * (1 - 0.04 * step)).astype(np.uint8))
        assert place is not None
        assert (place.x, place.y) == pytest.approx((0, 0), abs=2)


def test_a_strange_place_is_lost_and_a_known_one_found_again(slide: np.ndarray) -> None:
    stage = Stage()
    for x in range(0, 400, 20):
        assert stage.place(film(slide, x, 0))
    assert stage.place(film(slide, 1200, 900)) is None
    assert stage.place(np.full((240, 320, 3), 200, np.uint8)) is None
    places = [stage.place(film(slide, 60, 30)) for _ in range(5)]
    assert places[-1] is not None
    assert (places[-1].x, places[-1].y) == pytest.approx((60, 30), abs=3)


def test_a_later_run_goes_on_from_the_key_views(slide: np.ndarray) -> None:
    first = Stage()
    keys = [p.new_key for x in range(0, 800, 20) if (p := first.place(film(slide, x, 200))) and p.new_key]
    assert len(keys) == first.fields > 3
    later = Stage(keys)
    places = [later.place(film(slide, 500, 210)) for _ in range(3)]
    assert (places[-1].x, places[-1].y) == pytest.approx((500, 10), abs=3)
    assert Stage(keys).place(film(slide, 900, 900)) is None
    enlarged = cv2.resize(film(slide, 500, 210), (640, 480))  # a place on the map is in pixels of its frames
    another = Stage(keys)
    assert [another.place(enlarged) for _ in range(8)] == [None] * 8


@pytest.mark.parametrize("size", [(200, 240), (160, 120), (640, 480), (320, 20)])
def test_a_frame_of_another_size_is_not_placed(slide: np.ndarray, size: tuple[int, int]) -> None:
    stage = Stage()
    stage.place(film(slide, 0, 0))
    assert stage.place(film(slide, 0, 0, *size)) is None


def turned(slide: np.ndarray, x: float, y: float, angle: float) -> np.ndarray:
    """Film a frame whose middle is at (x, y), turned by `angle` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    move = np.array([[cos, -sin, x - 159.5 * cos + 119.5 * sin], [sin, cos, y - 159.5 * sin - 119.5 * cos]])
    return cv2.warpAffine(slide, move, (320, 240), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def test_a_slide_that_slowly_turns_is_followed(slide: np.ndarray) -> None:
    stage = Stage()
    for step in range(60):
        place = stage.place(turned(slide, 300 + 10 * step, 400, np.radians(0.5 * step)))
        assert place is not None
        assert np.degrees(place.angle) == pytest.approx(0.5 * step, abs=0.4)
        assert place.to_slide(159.5, 119.5) == pytest.approx((159.5 + 10 * step, 119.5), abs=3)


@pytest.mark.parametrize("degrees", [-170, -90, -33, 12, 90, 180])
def test_a_known_place_is_found_at_any_angle(slide: np.ndarray, degrees: float) -> None:
    stage = Stage()
    for x in range(300, 900, 20):
        stage.place(turned(slide, x, 400, 0.0))
    place = stage.place(turned(slide, 830, 420, np.radians(degrees)))
    assert place is not None
    assert place.to_slide(159.5, 119.5) == pytest.approx((689.5, 139.5), abs=2)
    # Going on, turned as it is, new ground joins the old.
    for y in range(420, 700, 20):
        place = stage.place(turned(slide, 830, y, np.radians(degrees)))
        assert place is not None
        assert place.to_slide(159.5, 119.5) == pytest.approx((689.5, y - 280.5), abs=3)


def test_a_texture_that_repeats_itself_places_nothing() -> None:
    tile = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    tile = cv2.resize(tile, (64, 64), interpolation=cv2.INTER_CUBIC)
    wall = np.repeat(np.tile(tile, (12, 16))[..., None], 3, axis=2)
    stage = Stage()
    assert stage.place(wall[:240, :320])
    assert stage.place(wall[30 : 30 + 240, 40 : 40 + 320]) is None


def test_bare_glass_places_nothing(slide: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(225, 2.5, (240, 320, 3)), 0, 255).astype(np.uint8)
    stage = Stage()
    # Not even as the first view: what shows nothing is never known again.
    assert stage.place(glass) is None
    assert stage.place(film(slide, 100, 100))
    assert stage.place(glass) is None


def test_a_long_map_costs_a_frame_no_more(slide: np.ndarray) -> None:
    """A frame is compared with a few key views, however many there are."""
    stage = Stage()
    first = stage.place(film(slide, 400, 300))
    assert first is not None
    assert first.new_key is not None
    looked = []
    stage._near = lambda view, near=stage._near: looked.append(found := near(view)) or found
    for i in range(400):
        stage._add(replace(first.new_key, x=400.0 * (1 + i % 20), y=400.0 * (i // 20)))
    assert stage.place(film(slide, 410, 300))
    assert looked
    assert max(map(len, looked)) < 12


def test_a_turned_frame_is_laid_on_the_slide_and_back() -> None:
    pose = Pose(100, 50, np.pi / 2)
    # Its x axis points down the slide, its y axis to the left.
    assert pose.to_slide(10, 0) == pytest.approx((100, 60))
    assert pose.to_slide(0, 10) == pytest.approx((90, 50))
    assert Pose(3, -7, 0.3).to_frame(*Pose(3, -7, 0.3).to_slide(12, 34)) == pytest.approx((12, 34))
