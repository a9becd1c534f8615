from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.cells import Box, Located
from edge.smear import Smear
from training import framing
from training.data import read_image
from training.framing import Framing, find_cell, single_cell_box, view

PURPLE = (120, 40, 160)
TWO_CELLS = "pbc/neutrophil/BNE_59746.jpg"
"""Of the validation split."""


def test_of_an_image_without_stain_the_crop_is_all() -> None:
    box = single_cell_box(np.full((90, 120, 3), 200, np.uint8))
    assert box.centre == (60, 45)
    assert box.side == pytest.approx(60)


@pytest.mark.parametrize("shape", [(6400, 16), (16, 6400)])
def test_a_strip_of_one_colour_is_looked_at(shape: tuple[int, int]) -> None:
    strip = np.full((*shape, 3), 16, np.uint8)
    assert find_cell(strip) == single_cell_box(strip)


def test_of_a_long_strip_the_middle_is_taken() -> None:
    box = single_cell_box(np.full((16, 6400, 3), 200, np.uint8))
    assert box.centre == (3200, 8)


def test_the_cell_in_the_middle_is_taken_not_the_larger_one_at_the_border() -> None:
    image = np.full((300, 300, 3), 240, np.uint8)
    cv2.circle(image, (150, 150), 30, PURPLE, -1)
    cv2.circle(image, (290, 20), 45, PURPLE, -1)
    box = single_cell_box(image)
    assert box.centre == pytest.approx((150, 150), abs=4)
    assert 60 < box.side < 90


def test_lobes_of_one_nucleus_are_one_cell() -> None:
    image = np.full((200, 200, 3), 240, np.uint8)
    for x, y in ((80, 100), (115, 85), (112, 125)):
        cv2.circle(image, (x, y), 14, PURPLE, -1)
    box = single_cell_box(image)
    assert box.x < 68
    assert box.x + box.width > 125
    assert box.y + box.height > 135


def test_real_cells_of_another_laboratory_are_framed_as_their_masks(shared_data: Path) -> None:
    good = []
    for file in sorted((shared_data / "cells" / "zheng1").glob("*_mask.png")):
        rows, columns = np.nonzero(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        box = single_cell_box(read_image(file.with_name(file.name.replace("_mask", ""))))
        truth = max(np.ptp(rows), np.ptp(columns)) + 1
        centre = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        near = np.hypot(box.centre[0] - centre[0], box.centre[1] - centre[1]) < 0.2 * truth
        good.append(near and 1 / 1.3 < box.side / truth < 1.3)
    assert len(good) == 300
    assert np.mean(good) > 0.93


@pytest.mark.parametrize("shape", [(500, 300), (60, 90)])
def test_a_whole_image_is_resized(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 7, np.uint8)
    seen = view(image, single_cell_box(image), 64, Framing.IMAGE)
    assert seen.shape == (64, 64, 3)
    assert (seen == 7).all()


def test_in_a_field_the_cell_is_found_wherever_it_lies() -> None:
    slide = Smear(1, 1600, 1200, 14)
    right = wrong = 0
    for cell in slide.cells:
        for x, y in ((60, 60), (360, 240), (60, 240), (360, 60)):
            left, top = cell.x - x, cell.y - y
            others = [c for c in slide.cells if -40 < c.x - left < 460 and -40 < c.y - top < 340]
            if not (0 <= left <= 1180 and 0 <= top <= 900) or len(others) > 1:
                continue
            field = slide.view(left, top, 420, 300)
            right += np.hypot(*np.subtract(find_cell(field).centre, (x, y))) < 20
            wrong += np.hypot(*np.subtract(single_cell_box(field).centre, (x, y))) >= 20
    assert right >= 5
    assert wrong >= 5, "these fields show nothing that the nucleus alone does not find"


def test_of_two_cells_that_lie_side_by_side_one_is_taken(shared_data: Path) -> None:
    image = read_image(shared_data / "cells" / TWO_CELLS)
    assert single_cell_box(image).side > 0.6 * min(image.shape[:2])
    assert find_cell(image).side < 0.45 * min(image.shape[:2])


def test_a_wide_frame_around_an_image_hides_no_cell(shared_data: Path) -> None:
    image = read_image(min((shared_data / "cells/pbc/neutrophil").glob("*.jpg")))
    framed = cv2.copyMakeBorder(image, 90, 400, 300, 50, cv2.BORDER_CONSTANT, value=(255,) * 3)
    assert find_cell(np.asarray(framed, np.uint8)) == find_cell(image).moved(300, 90)


def test_a_cell_that_fills_its_image_is_framed_by_its_nucleus(shared_data: Path) -> None:
    image = read_image(shared_data / "cells" / "zheng1" / "001.png")
    assert find_cell(image) == single_cell_box(image)


def test_in_a_field_the_locator_need_not_be_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    field = np.full((400, 500, 3), 160, np.uint8)
    field[:, ::3] = (120, 60, 140)  # dye everywhere: no nucleus stands out
    small, large = Box(380, 20, 90, 90), Box(100, 100, 250, 250)
    assert single_cell_box(field).side >= 0.95 * 400

    def found(*boxes: Box, whole: bool = True) -> Box:
        cells = [Located(box, whole, sure=False) for box in boxes]
        monkeypatch.setattr(framing, "_locator", lambda: SimpleNamespace(locate=lambda image: cells))
        return find_cell(field)

    assert found(small) == small
    assert found(small, whole=False) == single_cell_box(field)
    assert found(small, large) == single_cell_box(field)  # a cell that fills its image, and its lobe
