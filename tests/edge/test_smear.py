from itertools import combinations

import numpy as np
import pytest

from edge.drawing import LEUKOCYTES, WHITE
from edge.smear import Smear


def test_leukocytes_do_not_touch_and_every_type_is_there() -> None:
    smear = Smear(3, 2400, 1800, 40)
    assert len(smear.cells) == 40
    assert {c.name for c in smear.cells} == set(LEUKOCYTES)
    for a, b in combinations(smear.cells, 2):
        assert np.hypot(a.x - b.x, a.y - b.y) > (a.diameter_px + b.diameter_px) / 2
    assert all(c.diameter_px < c.x < 2400 - c.diameter_px for c in smear.cells)


def test_the_same_pixels_whatever_the_order_of_visiting() -> None:
    places = [(0, 0), (300, 200), (650, 100), (80, 420)]
    first, second = Smear(5, 1200, 900, 12), Smear(5, 1200, 900, 12)
    ahead = [first.view(x, y, 320, 240) for x, y in places]
    back = [second.view(x, y, 320, 240) for x, y in places[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(ahead, back, strict=True))


def test_a_view_half_a_pixel_on_lies_between_its_neighbours() -> None:
    smear = Smear(5, 1200, 900, 12)
    left, half, right = (smear.view(x, 200, 320, 240).astype(float) for x in (255.0, 255.5, 256.0))
    assert np.abs(half - (left + right) / 2).max() <= 1


@pytest.mark.parametrize("corner", [(-900, 100), (1300, 100), (100, -900), (100, 1000)])
def test_beyond_the_border_the_border_is_repeated(corner: tuple[int, int]) -> None:
    x, y = corner
    smear = Smear(5, 1200, 900, 12)
    beyond = smear.view(x, y, 320, 240)
    border = smear.view(min(max(x, 0), 880), min(max(y, 0), 660), 320, 240)
    line = {
        (-900, 100): border[:, :1],
        (1300, 100): border[:, -1:],
        (100, -900): border[:1],
        (100, 1000): border[-1:],
    }[corner]
    assert np.array_equal(beyond, np.broadcast_to(line, beyond.shape))


def test_the_nucleus_is_where_the_truth_says() -> None:
    smear = Smear(7, 1600, 1200, 12)
    for cell in smear.cells:
        half = cell.diameter_px / 2
        view = smear.view(cell.x - half, cell.y - half, round(2 * half), round(2 * half))
        assert view[..., 1].min() < WHITE[1] / 2
