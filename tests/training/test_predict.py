from collections.abc import Sequence
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from benchmarks.locator import CHANGES
from edge.cells import Answers, Box
from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.second_look import turned
from edge.smear import Smear
from training import data, model
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


@pytest.mark.filterwarnings("default")  # Keras' own start-up
@pytest.mark.parametrize(("framing", "looks"), [(Framing.CELL, 8), (Framing.IMAGE, 1)])
def test_a_doubtful_cell_is_looked_at_from_eight_sides_a_whole_image_as_the_study_does(
    tmp_path: Path, framing: Framing, looks: int
) -> None:
    network = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    weights = np.random.default_rng(1).normal(0, 0.002, (48, 2)).astype(np.float32)
    probabilities = keras.layers.Dense(2, activation="softmax")
    embedding = keras.layers.Dense(4)
    both = keras.Model(network.inputs, [probabilities(network.outputs[0]), embedding(network.outputs[0])])
    probabilities.set_weights([weights, np.zeros(2, np.float32)])
    facts = {"epochs": 1, "temperature": 1.0, "familiar": {"means": [[0.0] * 4], "limit": 1.0}}
    # Of a basophil and a platelet the shape of the nucleus tells nothing (`edge.lobes`).
    classes = (CLASSES[0], CLASSES[-1])
    model.save(model.Trained(both, classes, framing, facts), tmp_path / "model.keras")
    view = np.random.default_rng(2).integers(0, 256, (4, 4, 3), np.uint8)
    scores = [side.reshape(-1) @ weights for side in (view, *turned(view))][:looks]
    expected = np.exp(np.mean([s - np.log(np.exp(s).sum()) for s in scores], axis=0))
    answer = open_model(tmp_path / "model.keras").answer(view[None]).probabilities[0]
    assert answer == pytest.approx(expected / expected.sum(), abs=1e-4)


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
