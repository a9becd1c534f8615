import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Image
from edge.lobes import TYPICAL, Shape, shape, weigh
from edge.preprocess import crop
from training.data import load, read_image
from training.framing import find_cell

NAMES = ("lymphocyte", "monocyte", "neutrophil", "platelet")


def drawn(
    discs: list[tuple[int, int, int]], dye: tuple[int, int, int] = (90, 40, 130), side: int = 192
) -> Image:
    """A cell whose nucleus is made of discs (x, y, radius, in 192nds of the crop's side)."""
    image, scale = np.full((side, side, 3), 235, np.uint8), side / 192
    cv2.circle(image, (side // 2, side // 2), round(62 * scale), (200, 185, 225), -1, cv2.LINE_AA)
    for x, y, radius in discs:
        cv2.circle(image, (round(x * scale), round(y * scale)), round(radius * scale), dye, -1, cv2.LINE_AA)
    return image


ROUND = [(96, 96, 45)]
LOBED = [(70, 75, 20), (96, 60, 18), (122, 75, 20), (128, 105, 18)]


def measured(image: Image) -> Shape:
    found = shape(image)
    assert found is not None
    return found


def test_a_round_nucleus_is_a_disc_and_a_lobed_one_is_not() -> None:
    disc, lobed = measured(drawn(ROUND)), measured(drawn(LOBED))
    assert disc.disc == pytest.approx(0.564, abs=0.02)
    assert disc.hull > 0.97
    assert lobed.disc < 0.4
    assert lobed.hull < 0.85


def test_lobes_that_lie_apart_are_of_one_nucleus_and_specks_are_not() -> None:
    apart = measured(drawn([(65, 96, 20), (127, 96, 20)]))
    assert apart.disc == pytest.approx(0.564 / 2**0.5, abs=0.03)
    assert measured(drawn([*ROUND, (150, 96, 5)])).disc == pytest.approx(
        measured(drawn(ROUND)).disc, abs=0.01
    )


def test_the_nucleus_of_a_neighbour_is_none_of_the_cells() -> None:
    beside = measured(drawn([*ROUND, (12, 12, 17), (180, 96, 11)]))
    assert beside.disc == pytest.approx(measured(drawn(ROUND)).disc, abs=0.01)
    assert beside.hull > 0.97


@pytest.mark.parametrize("dye", [(60, 60, 140), (130, 50, 110), (100, 80, 150)])
@pytest.mark.parametrize("side", [96, 192, 224])
def test_shape_is_no_matter_of_stain_size_or_turn(dye: tuple[int, int, int], side: int) -> None:
    usual, other = measured(drawn(LOBED)), measured(np.rot90(drawn(LOBED, dye, side)))
    assert other.disc == pytest.approx(usual.disc, abs=0.03)
    assert other.hull == pytest.approx(usual.hull, abs=0.04)


@pytest.mark.parametrize("grey", [0, 128, 235, 255])
def test_where_nothing_is_stained_there_is_no_shape(grey: int) -> None:
    assert shape(np.full((192, 192, 3), grey, np.uint8)) is None


def test_a_doubtful_answer_follows_the_nucleus() -> None:
    doubtful = np.array([[0.45, 0.5, 0.03, 0.02], [0.03, 0.5, 0.45, 0.02]], np.float32)
    weighed = weigh(doubtful, [drawn(ROUND), drawn(LOBED)], NAMES)
    assert [NAMES[i] for i in weighed.argmax(axis=1)] == ["lymphocyte", "neutrophil"]
    assert weighed.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert weighed[:, 3] == pytest.approx([0.02, 0.02], abs=1e-6), "nobody knows the shape of a platelet"
    assert doubtful[0, 1] == 0.5, "what was given stays as it is"


def test_an_outline_may_be_wrong_and_excludes_nothing() -> None:
    sure = np.array([[0.005, 0.005, 0.99, 0]], np.float32)
    assert weigh(sure, [drawn(ROUND)], NAMES)[0, 2] > 0.5


def test_without_a_nucleus_or_a_known_class_the_answer_stays() -> None:
    answer = np.array([[0.6, 0.4]], np.float32)
    assert np.array_equal(weigh(answer, [np.full((192, 192, 3), 235, np.uint8)], NAMES[:2]), answer)
    assert np.array_equal(weigh(answer, [drawn(ROUND)], ("a", "b")), answer)
    assert weigh(answer[:0], [], NAMES[:2]).shape == (0, 2)


@pytest.mark.parametrize("source", ["pbc", "zheng1", "bccd"])
@pytest.mark.parametrize("name", ["lymphocyte", "monocyte", "neutrophil"])
def test_nuclei_of_every_laboratory_have_the_shapes_of_their_classes(
    shared_data: Path, source: str, name: str
) -> None:
    part = "validation" if source == "pbc" else "other-laboratory"
    samples = [s for s in load(shared_data) if (s.source, s.split, s.name) == (source, part, name)]
    images = [read_image(s.path) for s in samples[:: math.ceil(len(samples) / 60)]]
    found = [measured(crop(image, find_cell(image), 192)) for image in images]
    usual = np.array([TYPICAL[other][:2] for other in NAMES[:3]])
    away = np.abs(usual - np.median([[s.disc, s.hull] for s in found], axis=0))
    assert [NAMES[i] for i in away.argmin(axis=0)] == [name, name]
