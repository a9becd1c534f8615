from dataclasses import replace

import numpy as np
import pytest

from edge.cells import Box, Cell, CellClass, Role
from edge.report import whys

CLASSES = (
    CellClass("neutrophil", Role.COUNTED),
    CellClass("immature_granulocyte", Role.COUNTED),
    CellClass("platelet", Role.REJECTED),
)


def test_a_size_that_leaves_a_platelet_the_likeliest_is_not_taken_for_a_missing_nucleus() -> None:
    def why(shares: list[float], alone: list[float]) -> list[str]:
        decided, looks = (np.array(p, np.float32) for p in (shares, alone))
        name = CLASSES[int(decided.argmax())].name
        cell = Cell(1, name, 0.9, decided, 0.5, 3, Box(0, 0, 9, 9), (0, 0), True, b"", looks)
        return whys(cell, CLASSES)

    assert why([0.3, 0.3, 0.4], [0.55, 0.05, 0.4]) == ["by its size; it looks like neutrophil"]
    assert why([0.0, 0.0, 1.0], [0.1, 0.2, 0.7]) == ["too pale for a nucleus"]
    assert why([0.3, 0.6, 0.1], [0.3, 0.6, 0.1]) == ["unsure: it may be neutrophil"]
    assert why([0.6, 0.39, 0.01], [0.6, 0.39, 0.01]) == ["unsure: it may be immature granulocyte"]
    assert why([0.98, 0.01, 0.01], [0.98, 0.01, 0.01]) == ["unsure"]


@pytest.mark.parametrize(
    ("decided", "looks", "strangeness", "why"),
    [
        (0, 0, 0.5, ["seen too briefly, perhaps no leukocyte, or not the same on every image"]),
        (0, 1, 0.5, ["by its size; it looks like immature granulocyte"]),
        (2, 1, 0.5, ["too pale for a nucleus; it looks like immature granulocyte"]),
        (0, 0, 1.1, ["unlike the cells that the model learned from"]),
        (2, 2, 0.5, ["seen too briefly, perhaps no leukocyte, or not the same on every image"]),
    ],
)
def test_the_result_says_why_a_cell_is_reviewed(
    decided: int, looks: int, strangeness: float, why: list[str]
) -> None:
    shares, alone = np.eye(3, dtype=np.float32)[[decided, looks]]
    box, name = Box(0, 0, 9, 9), CLASSES[decided].name
    cell = Cell(1, name, 1.0, shares, strangeness, 3, box, (0, 0), True, b"", alone)
    assert whys(cell, CLASSES) == why
    assert whys(replace(cell, review=False), CLASSES) == []
