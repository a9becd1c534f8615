from pathlib import Path

import cv2
import numpy as np
import pytest

from training import data, textbook
from training.framing import single_cell_box


def test_each_of_the_five_classes_is_drawn_and_a_seed_repeats_it(tmp_path: Path) -> None:
    samples = textbook.write_cells(tmp_path / "a", 2, 1)
    assert [s.name for s in samples] == [name for name in data.STUDY_CLASSES for _ in range(2)]
    assert {s.source for s in samples} == {"textbook"}
    again = textbook.write_cells(tmp_path / "b", 2, 1)
    assert all(a.path.read_bytes() == b.path.read_bytes() for a, b in zip(samples, again, strict=True))
    assert samples[0].path.read_bytes() != samples[1].path.read_bytes()
    assert textbook.write_cells(tmp_path / "none", 0, 1) == []


@pytest.mark.parametrize("name", data.STUDY_CLASSES)
def test_the_cell_is_found_in_the_middle(name: str) -> None:
    for seed in range(8):
        image = textbook.draw(name, np.random.default_rng(seed))
        box, side = single_cell_box(image), image.shape[0]
        assert abs(box.centre[0] - side / 2) < 0.2 * side
        assert abs(box.centre[1] - side / 2) < 0.2 * side
        assert 0.2 * side < box.side < 0.75 * side


def test_a_lymphocyte_is_mostly_nucleus_and_a_neutrophil_is_not() -> None:
    def nuclear_share(name: str) -> float:
        shares = []
        for seed in range(30):
            grey = cv2.cvtColor(textbook.draw(name, np.random.default_rng(seed)), cv2.COLOR_RGB2GRAY)
            shares.append(float((grey[78:208, 78:208] < 110).mean()))
        return float(np.median(shares))

    assert nuclear_share("lymphocyte") > 1.5 * nuclear_share("neutrophil")
