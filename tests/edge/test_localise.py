import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box
from edge.localise import RED_CELL_UM, Locator, measure_red_cells, stain
from training.framing import single_cell_box

Fields = dict[str, list[tuple[str, Box]]]


@pytest.fixture(scope="module")
def fields(shared_data: Path) -> dict[str, Fields]:
    """Labelled boxes of the validation fields: {source: {file: [(object, box)]}}."""
    found: dict[str, Fields] = defaultdict(lambda: defaultdict(list))
    with (shared_data / "fields.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "validation":
                box = Box(*(float(row[key]) for key in ("x", "y", "w", "h")))
                found[row["source"]][row["file"]].append((row["object"], box))
    return found


def read(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    common = max(width, 0) * max(height, 0)
    return common / (a.width * a.height + b.width * b.height - common)


@pytest.mark.parametrize("source", ["pbc", "raabin", "bccd"])
def test_leukocytes_of_three_laboratories_are_found(
    fields: dict[str, Fields], shared_data: Path, source: str
) -> None:
    right = labelled = located = 0
    for file, objects in list(fields[source].items())[:50]:
        boxes = [found.box for found in Locator().locate(read(shared_data / "fields" / file))]
        cells = [box for kind, box in objects if kind == "leukocyte"]
        labelled += len(cells)
        located += len(boxes)
        right += sum(any(overlap(cell, box) >= 0.5 for box in boxes) for cell in cells)
    assert right / labelled > 0.88
    assert right / located > 0.88


@pytest.mark.parametrize("source", ["pbc", "raabin", "bccd"])
def test_the_red_cells_are_the_ruler(fields: dict[str, Fields], shared_data: Path, source: str) -> None:
    ratios = []
    for file, objects in list(fields[source].items())[:30]:
        labelled = [(b.width * b.height) ** 0.5 for kind, b in objects if kind == "erythrocyte" and b.x > 2]
        ruler = measure_red_cells(stain(read(shared_data / "fields" / file)))
        if labelled and ruler.diameter_px:
            ratios.append(ruler.diameter_px / np.median(labelled))
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_an_empty_field_has_no_cell_and_no_ruler(grey: int) -> None:
    locator = Locator()
    assert locator.locate(np.full((120, 160, 3), grey, np.uint8)) == []
    assert locator.red_cell_px is None


def test_a_cell_cut_by_the_border_is_not_whole(shared_data: Path) -> None:
    image = read(next((shared_data / "cells/pbc/neutrophil").glob("*.jpg")))
    box = single_cell_box(image)
    x, y = (round(c) for c in box.centre)
    (whole,) = (f for f in Locator().locate(image) if overlap(f.box, box) > 0.9)
    assert whole.whole
    cut = Locator(um_per_px=RED_CELL_UM / 71).locate(image[:, x:])
    assert any(not f.whole and abs(f.box.centre[1] - y) < box.side / 2 for f in cut)


def test_a_given_scale_replaces_the_ruler() -> None:
    assert Locator(um_per_px=0.1).red_cell_px == pytest.approx(72)
