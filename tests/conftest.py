"""Fixtures that every test may use."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data import CLASSES

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The expert-labelled images beside the repository; a stranger without them skips these tests."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("REQUIRE_SHARED_DATA"):
            pytest.fail(f"{SHARED_DATA} is missing, and REQUIRE_SHARED_DATA is set")
        pytest.skip("real images (../shared/data) are not here")
    return SHARED_DATA


@pytest.fixture
def made_data(tmp_path: Path) -> Path:
    """A tiny labelled data set made here: discs of one colour a class, nothing like cells.

    Folder with cells.csv and cells/: 4 training, 2 validation and 2 test images of each class.
    """
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    rows = []
    for label, cell_class in enumerate(CLASSES):
        for number, split in enumerate(["train"] * 4 + ["validation"] * 2 + ["test"] * 2):
            image = np.full((120, 120, 3), 230, np.uint8)
            colour = [30 * label, 250 - 30 * label, 128]
            cv2.circle(image, (60, 60), 30, colour, -1)
            image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
            file = folder / "cells" / cell_class.name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), image)
            rows.append([f"{cell_class.name}/{file.name}", cell_class.name, "", "pbc", split])
    with (folder / "cells.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "class", "subtype", "source", "split"], *rows])
    return folder
