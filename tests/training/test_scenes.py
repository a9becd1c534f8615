import numpy as np
import pytest

from edge.cells import Box
from training.fields import Field, drawn, edges_of
from training.litter import Scene, invite, litter
from training.scenes import make_scene, visible

SIZE = 96


@pytest.fixture(scope="module")
def fields() -> list[Field]:
    return list(drawn(4, np.random.default_rng(3)))


def test_scenes_are_the_same_for_the_same_seed(fields: list[Field]) -> None:
    first, second = (make_scene(fields, fields, SIZE, np.random.default_rng(5)) for _ in "ab")
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.cells, second.cells, equal_nan=True)


@pytest.mark.parametrize("seed", range(12))
def test_every_box_reaches_into_its_scene(fields: list[Field], seed: int) -> None:
    scene = make_scene(fields, fields, SIZE, np.random.default_rng(seed))
    assert scene.image.shape == (SIZE, SIZE, 3)
    known = scene.cells[~np.isnan(scene.cells).any(axis=1)]
    assert (known[:, 2:] > 0).all()
    assert (known[:, :2] < scene.extent).all()
    width, height = scene.extent
    assert (scene.image[height:] == 128).all()
    assert (scene.image[:, width:] == 128).all()


def test_a_box_lies_where_the_cell_is_after_turning_and_scaling() -> None:
    image = np.full((120, 160, 3), 230, np.uint8)
    image[50:70, 70:90] = (90, 30, 130)
    field = Field("", "pbc", image, 20.0, edges_of([Box(70, 50, 20, 20)]))
    errors = []
    for seed in range(60):
        scene = make_scene([field], [field], SIZE, np.random.default_rng(seed))
        grey = scene.image[: scene.extent[1], : scene.extent[0]].astype(float).mean(axis=2)
        for left, top, right, bottom in scene.cells[visible(scene)]:
            if left > 4 and top > 4 and right < scene.extent[0] - 4 and bottom < scene.extent[1] - 4:
                x, y = int((left + right) / 2), int((top + bottom) / 2)
                errors.append(grey[y, x] < np.median(grey) - 3)
    assert len(errors) > 60
    assert np.mean(errors) > 0.9


def test_a_cell_of_which_little_is_seen_teaches_nothing() -> None:
    cells = np.array([(-18, 10, 2, 30), (-5, 10, 15, 30), (np.nan, 10, 15, 30)], np.float32)
    scene = Scene(np.zeros((SIZE, SIZE, 3), np.uint8), (SIZE, SIZE), cells, edges_of([]))
    assert visible(scene).tolist() == [False, True, True]


def test_some_guests_are_cut_by_the_border(fields: list[Field]) -> None:
    cut = whole = 0
    for seed in range(40):
        scene = Scene(np.full((SIZE, SIZE, 3), 220, np.uint8), (SIZE, SIZE), edges_of([]), edges_of([]))
        invite(scene, fields, 12.0, np.random.default_rng(seed))
        inside = ((scene.cells >= 0) & (scene.cells <= SIZE)).all(axis=1)
        cut, whole = cut + int((~inside & visible(scene)).sum()), whole + int(inside.sum())
    assert cut > whole > 0


def test_litter_lies_beside_the_cells(fields: list[Field]) -> None:
    changed = 0
    for seed in range(12):
        image = np.full((SIZE, SIZE, 3), 220, np.uint8)
        scene = Scene(image.copy(), (SIZE, SIZE), edges_of([Box(30, 30, 24, 24)]), edges_of([]))
        litter(scene, fields, 12.0, np.random.default_rng(seed))
        assert (scene.image[38:46, 38:46] == 220).mean() > 0.8
        changed += not np.array_equal(scene.image, image)
    assert changed >= 3
