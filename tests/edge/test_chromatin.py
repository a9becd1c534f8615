import cv2
import numpy as np
import pytest

from edge import chromatin
from edge.cells import Box, Image
from edge.chromatin import Core, all_tinted, beside, stained
from edge.ruler import stain

RED = (215, 180, 185)


def told(image: Image, boxes: list[Box], unit: float) -> list[Core]:
    return chromatin.cores(image, boxes, unit, all_tinted(stain(image)))


def smear(dye: float, wide: int = 26, red: tuple[int, int, int] = RED, *, blue: float = 0.5) -> Image:
    """Nine discs: red cells, and in their middle one that is `dye` times as dense, in blue `blue` of that."""
    frame = np.full((192, 192, 3), 230, np.uint8)
    for x in (32, 96, 160):
        for y in (32, 96, 160):
            density = np.array([dye, dye, blue * dye]) if (x, y) == (96, 96) else np.ones(3)
            colour = (230 * (np.array(red) / 230) ** density).round().tolist()
            cv2.circle(frame, (x, y), wide, colour, -1, cv2.LINE_AA)
    return frame


def edges(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(("dye", "dark"), [(1.0, False), (1.4, False), (2.5, True), (5.0, True)])
def test_a_leukocyte_is_darker_than_the_red_cells_around_it(dye: float, dark: bool) -> None:
    assert stained(smear(dye, blue=1.0), edges((66, 66, 126, 126))) == [dark]


def test_boxes_are_judged_one_by_one_and_no_box_is_compared_with_another() -> None:
    frame = smear(4.0)
    leukocyte, red_cell, glass = (66, 66, 126, 126), (2, 2, 62, 62), (60, 30, 68, 40)
    assert stained(frame, edges(leukocyte, red_cell, glass)) == [True, False, False]
    assert stained(frame, edges()) == []


def test_where_a_box_leaves_little_around_it_any_contrast_will_do() -> None:
    assert stained(smear(1.0), edges((40, 40, 150, 150))) == [True]
    assert stained(np.full((192, 192, 3), 230, np.uint8), edges((40, 40, 150, 150))) == [False]


def test_a_box_beyond_the_border_holds_what_lies_inside() -> None:
    assert stained(smear(5.0), edges((-30, -30, -2, -2), (66, 66, 400, 126))) == [False, True]


@pytest.mark.parametrize("red", [(220, 198, 200), RED, (190, 140, 150)], ids=["pale", "usual", "dark"])
@pytest.mark.parametrize(("dye", "dark"), [(1.0, False), (1.7, False), (2.5, True), (4.0, True)])
def test_a_core_is_compared_with_the_red_cells(dye: float, dark: bool, red: tuple[int, int, int]) -> None:
    assert (told(smear(dye, wide=20, red=red), [Box(70, 70, 52, 52)], 40) != [Core.PALE]) == dark


@pytest.mark.parametrize("dye", [3.0, 6.0])
@pytest.mark.parametrize(
    ("blue", "dark"), [(0.5, True), (0.9, True), (0.95, False), (1.0, False), (1.1, False)]
)
def test_red_cells_over_each_other_keep_their_colour(dye: float, blue: float, dark: bool) -> None:
    assert (told(smear(dye, wide=20, blue=blue), [Box(70, 70, 52, 52)], 40) != [Core.PALE]) == dark


@pytest.mark.parametrize(("blue", "core"), [(0.5, Core.DARK), (1.0, Core.PALE)])
def test_the_colour_is_seen_on_yellow_glass_too(blue: float, core: Core) -> None:
    yellow = (smear(3.0, wide=20, blue=blue) * np.array([1, 1, 0.7])).astype(np.uint8)
    assert told(yellow, [Box(70, 70, 52, 52)], 40) == [core]


@pytest.mark.parametrize("blue", [1.0, 3.0])
def test_red_cells_that_hold_back_no_blue_do_not_tell_by_their_colour(blue: float) -> None:
    assert told(smear(3.0, wide=20, red=(225, 180, 222), blue=blue), [Box(70, 70, 52, 52)], 40) == [Core.DARK]


def test_a_nucleus_is_far_darker_than_the_red_cells() -> None:
    found = [told(smear(dye, wide=20), [Box(70, 70, 52, 52)], 40)[0] for dye in (1.5, 3.0, 6.0)]
    assert found == [Core.PALE, Core.DARK, Core.NUCLEUS]


@pytest.mark.parametrize(("dye", "core"), [(5.0, Core.DARK), (8.0, Core.NUCLEUS)])
def test_what_is_darker_than_any_platelet_need_not_be_even(dye: float, core: Core) -> None:
    frame, dense = smear(dye, wide=20), smear(1.6 * dye, wide=20)
    grains = np.zeros((192, 192), np.uint8)
    for x, y in ((84, 96), (108, 96), (96, 84), (96, 108)):
        cv2.circle(grains, (x, y), 4, 1, -1)
    frame[grains > 0] = dense[grains > 0]
    assert told(frame, [Box(70, 70, 52, 52)], 40) == [core]


def test_each_cell_of_a_frame_is_told() -> None:
    frame = smear(6.0, wide=20)
    boxes = [Box(70, 70, 52, 52), Box(6, 6, 52, 52), Box(94, 94, 2, 2)]
    assert told(frame, boxes, 52) == [Core.NUCLEUS, Core.PALE, Core.PALE]
    assert told(frame, [], 52) == []


@pytest.mark.parametrize("scale", [1, 4])
def test_red_cells_are_measured_beside_the_cells(scale: int) -> None:
    image, unit = np.full((300, 400, 3), 230, np.uint8), 40
    for place in [(50, 50), (120, 250)]:
        cv2.circle(image, place, unit // 2, RED, -1)
    cv2.circle(image, (330, 240), 30, (110, 70, 150), -1)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    leukocyte, red_cell, other = (
        Box(scale * x, scale * y, scale * side, scale * side)
        for x, y, side in ((295, 205, 70), (25, 25, 50), (95, 225, 50))
    )
    dye = stain(image)
    found = beside(dye, [leukocyte], scale * unit)
    assert found is not None
    assert found.density == pytest.approx(np.log(230 / RED[1]), rel=0.1)
    assert chromatin.cores(image, [leukocyte, red_cell], scale * unit, found)[1] is Core.PALE
    assert chromatin.cores(image, [leukocyte, red_cell], scale * unit, found)[0] > Core.PALE
    assert beside(dye, [leukocyte, red_cell, other], scale * unit) is None
