from pathlib import Path

import numpy as np
import pytest

from edge.ruler import red_cell_px
from training.data import read_image
from training.fields import read_boxes


@pytest.mark.parametrize("source", ["pbc", "raabin", "bccd"])
def test_the_red_cells_are_the_ruler(shared_data: Path, source: str) -> None:
    ratios = []
    for file, objects in list(read_boxes(shared_data, "validation")[source].items())[:30]:
        labelled = [(b.width * b.height) ** 0.5 for b in objects["erythrocyte"] if b.x > 2]
        measured = red_cell_px(read_image(shared_data / "fields" / file))
        if labelled and measured:
            ratios.append(measured / np.median(labelled))
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_empty_field_has_no_ruler(grey: int) -> None:
    assert red_cell_px(np.full((720, 960, 3), grey, np.uint8)) is None


def test_many_small_red_cells_are_measured_too(shared_data: Path) -> None:
    files = list(read_boxes(shared_data, "validation")["pbc"])[:64]
    fields = [read_image(shared_data / "fields" / file)[:360, :360] for file in files]
    sheet = np.concatenate([np.concatenate(fields[8 * row : 8 * row + 8], axis=1) for row in range(8)])
    alone = np.median([px for field in fields if (px := red_cell_px(field))])
    assert red_cell_px(sheet) == pytest.approx(alone, rel=0.15)
