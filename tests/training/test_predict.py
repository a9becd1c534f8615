from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.locator import CHANGES
from edge.cells import Answers, Box
from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.smear import Smear
from training import data
from training.data import CLASSES, Sample
from training.framing import Framing
from training.predict import look, open_model


class Anything:
    classes, size, framing = CLASSES, 32, Framing.CELL

    def answer(self, views: np.ndarray) -> Answers:
        raise NotImplementedError

    def explain(self, views: np.ndarray, names: Sequence[str]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("box", [Box(200, 10, 20, 20), Box(10, 10, 0, 0)])
def test_a_box_without_a_cell_is_told_with_its_image(tmp_path: Path, box: Box) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((90, 120, 3), 200, np.uint8))
    sample = Sample(tmp_path / "a.png", "a.png", "monocyte", "made", "", box=box)
    with pytest.raises(UserError, match=r"a\.png: a box of no size or outside the image"):
        look(sample, Anything())


def test_an_integer_file_explains_its_answers_by_its_own_maps() -> None:
    predictor = open_model(DEFAULT_MODEL)
    cell = Smear(1, 800, 600, 5).cells[0]
    view = Smear(1, 800, 600, 5).view(cell.x - 60, cell.y - 60, 120, 120)
    views = cv2.resize(view, (predictor.size, predictor.size))[None]
    answers = predictor.answer(views)
    names = [c.name for c in predictor.classes]
    named = names[int(answers.probabilities[0].argmax())]
    other = names[int(answers.probabilities[0].argmin())]
    heat = predictor.explain(views, [named])
    assert heat is not None
    assert answers.heat is not None
    assert heat.shape == views.shape[:3]
    assert np.allclose(heat[0], cv2.resize(answers.heat[0], heat.shape[1:]))
    against = predictor.explain(views, [other])
    assert against is not None
    assert not np.allclose(heat, against)


@pytest.mark.parametrize(("change", "least"), [("cut 5 % into", 0.65), ("alone on black", 0.6)])
def test_cells_of_a_strange_laboratory_are_known_however_they_were_cut(
    shared_data: Path, tmp_path: Path, change: str, least: float
) -> None:
    predictor = open_model(DEFAULT_MODEL)
    five = [i for i, c in enumerate(predictor.classes) if c.name in data.STUDY_CLASSES]
    right = []
    for sample in [s for s in data.load(shared_data) if s.source == "zheng1"][::5]:
        data.write_image(tmp_path / "changed.png", CHANGES[change](data.read_image(sample.path)))
        view = look(Sample(tmp_path / "changed.png", sample.file, sample.name, "zheng1", ""), predictor)
        best = five[int(predictor.answer(view[None]).probabilities[0, five].argmax())]
        right.append(predictor.classes[best].name == sample.name)
    assert np.mean(right) > least
