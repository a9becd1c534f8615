from pathlib import Path

import numpy as np
import pytest

from edge.ruler import measure_red_cells, stain
from training.data import read_image
from training.fields import read_boxes


@pytest.mark.parametrize("source", ["pbc", "raabin", "bccd"])
def test_the_red_cells_are_the_ruler(shared_data: Path, source: str) -> None:
    ratios = []
    for file, objects in list(read_boxes(shared_data, "validation")[source].items())[:30]:
        labelled = [(b.width * b.height) ** 0.5 for b in objects["erythrocyte"] if b.x > 2]
        ruler = measure_red_cells(stain(read_image(shared_data / "fields" / file)))
        if labelled and ruler.diameter_px:
            ratios.append(ruler.diameter_px / np.median(labelled))
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_empty_field_has_no_ruler(grey: int) -> None:
    assert measure_red_cells(stain(np.full((120, 160, 3), grey, np.uint8))).diameter_px is None
