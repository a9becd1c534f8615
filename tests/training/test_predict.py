import cv2
import numpy as np

from edge.classify import DEFAULT_MODEL
from edge.smear import Smear
from training.predict import open_model


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
