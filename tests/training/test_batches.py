import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training import data
from training.batches import Exam, Lessons, correction, find_cells, shares
from training.framing import Framing
from training.recipe import Balance, Recipe

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

NAMES = [c.name for c in data.CLASSES]


def sample(number: int, name: str, source: str = "pbc") -> data.Sample:
    return data.Sample(Path(f"{number}.png"), f"{number}.png", name, source, "train")


def test_the_commoner_class_in_blood_is_drawn_more_often_and_all_alike_if_even() -> None:
    samples = [sample(i, "neutrophil") for i in range(30)] + [sample(i, "basophil") for i in range(70)]
    blood, even = shares(samples, Balance.BLOOD), shares(samples, Balance.EVEN)
    assert blood.sum() == pytest.approx(1)
    assert blood[:30].sum() / blood[30:].sum() == pytest.approx((0.6 / 0.007) ** 0.5)
    assert even[:30].sum() == pytest.approx(0.5)


def test_scores_are_set_right_for_blood_as_it_is() -> None:
    """What was drawn by the root of its share, times the correction, has its share."""
    samples = [sample(i, "neutrophil") for i in range(30)] + [sample(i, "basophil") for i in range(70)]
    drawn = shares(samples, Balance.BLOOD)
    in_use = np.array([drawn[:30].sum(), drawn[30:].sum()])
    in_use = in_use * np.exp(correction(["neutrophil", "basophil"], Balance.BLOOD))
    assert in_use[0] / in_use[1] == pytest.approx(0.6 / 0.007)
    assert not correction(["neutrophil", "basophil"], Balance.EVEN).any()


def test_a_small_laboratory_is_heard_beside_a_large_one() -> None:
    samples = [sample(i, "neutrophil") for i in range(400)] + [
        sample(i, "neutrophil", "small") for i in range(100)
    ]
    assert shares(samples, Balance.EVEN)[400:].sum() == pytest.approx(1 / 3)


def test_the_draw_of_an_epoch_is_repeatable(made_data: Path) -> None:
    cells = find_cells(data.select(data.load(made_data), "train"))
    lessons = Lessons(cells, NAMES, 96, Recipe(batch=8))
    before, truth = lessons[0]
    assert before.shape == (8, 96, 96, 3)
    assert truth.sum(axis=1).tolist() == [1] * 8
    lessons.begin(1)
    assert not np.array_equal(lessons[0][0], before)
    lessons.begin(0)
    assert np.array_equal(lessons[0][0], before)


def test_without_balance_every_image_comes_once_an_epoch(made_data: Path) -> None:
    cells = find_cells(data.select(data.load(made_data), "train"))
    recipe = replace(Recipe(batch=8), balance=Balance.NONE, augment=False)
    lessons = Lessons(cells, NAMES, 48, recipe)
    truth = np.concatenate([lessons[i][1] for i in range(len(lessons))])
    assert Counter(truth.argmax(axis=1).tolist()) == dict.fromkeys(range(8), 4)


def test_an_exam_keeps_the_order_and_shows_the_cells_as_they_are(made_data: Path) -> None:
    samples = data.select(data.load(made_data), "test")
    exam = Exam(find_cells(samples), NAMES, 64, Framing.CELL, batch=5)
    views = np.concatenate([exam[i][0] for i in range(len(exam))])
    assert views.shape == (16, 64, 64, 3)
    assert [NAMES[i] for i in exam.truth.argmax(axis=1)] == [s.name for s in samples]
    assert np.array_equal(views[5], find_cells(samples[5:6]).views(64, Framing.CELL)[0])


def test_a_person_sees_how_far_the_finding_is(
    made_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    find_cells(data.select(data.load(made_data), "test"))
    assert "5 of 16 images" in capsys.readouterr().err
