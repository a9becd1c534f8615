from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Answers, Box
from edge.errors import UserError
from training.data import CLASSES, Sample
from training.framing import Framing
from training.predict import look


class Anything:
    classes, size, framing = CLASSES, 32, Framing.CELL

    def answer(self, views: np.ndarray) -> Answers:
        raise NotImplementedError


@pytest.mark.parametrize("box", [Box(200, 10, 20, 20), Box(10, 10, 0, 0)])
def test_a_box_without_a_cell_is_told_with_its_image(tmp_path: Path, box: Box) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((90, 120, 3), 200, np.uint8))
    sample = Sample(tmp_path / "a.png", "a.png", "monocyte", "made", "", box=box)
    with pytest.raises(UserError, match=r"a\.png: a box of no size or outside the image"):
        look(sample, Anything())
