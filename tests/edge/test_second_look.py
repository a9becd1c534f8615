from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
import pytest

from edge.cells import Answers, Image, Probabilities
from edge.lobes import weigh
from edge.second_look import consider, turned


def by_corner(crops: Sequence[Image]) -> Answers:
    """A model that looks at the upper left pixel alone: red is the first class's share, green how strange."""
    first = np.array([crop[0, 0, 0] / 255 for crop in crops], np.float32)
    strange = np.array([crop[0, 0, 1] for crop in crops], np.float32)
    return Answers(np.stack([first, 1 - first], axis=1).reshape(-1, 2), strange)


def unweighed(probabilities: Probabilities, crops: Sequence[Image]) -> Probabilities:
    return probabilities


def square(*corners: tuple[int, int]) -> Image:
    crop = np.zeros((8, 8, 3), np.uint8)
    for (row, column), (red, green) in zip(((0, 0), (0, -1), (-1, -1), (-1, 0)), corners, strict=True):
        crop[row, column, :2] = red, green
    return crop


def test_the_eight_sides_of_a_crop_all_differ_and_hold_the_same_pixels() -> None:
    crop = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    sides = [crop, *turned(crop)]
    assert len({side.tobytes() for side in sides}) == 8
    assert all(np.array_equal(np.sort(side.ravel()), np.arange(48)) for side in sides)
    assert all(side.flags.c_contiguous for side in sides)


def test_a_doubtful_answer_is_the_mean_of_the_scores_over_all_sides() -> None:
    crop = square((128, 8), (255, 0), (255, 0), (255, 0))
    answers = consider(by_corner, [crop], unweighed)
    shares = np.array([[128 / 255, 127 / 255], [1, 1 / 512]])
    product = shares[0] ** (2 / 8) * shares[1] ** (6 / 8)  # each corner is the upper left one twice in eight
    assert answers.probabilities[0] == pytest.approx(product / product.sum(), abs=1e-6)
    assert answers.strangeness[0] == pytest.approx(2)


def test_a_wrong_first_look_is_put_right() -> None:
    crop = square((100, 0), (250, 0), (250, 0), (250, 0))
    assert by_corner([crop]).probabilities[0, 0] < 0.5
    assert consider(by_corner, [crop], unweighed).probabilities[0, 0] > 0.5


def of_a_round_nucleus(*shares: float, names: Sequence[str]) -> Probabilities:
    """What is said of a cell with a round nucleus by a model that always says `shares`."""

    def look(crops: Sequence[Image]) -> Answers:
        said = np.tile(np.float32(shares), (len(crops), 1))
        return Answers(said, np.zeros(len(crops), np.float32))

    crop = np.full((96, 96, 3), 235, np.uint8)
    cv2.circle(crop, (48, 48), 22, (90, 40, 130), -1, cv2.LINE_AA)
    (answer,) = consider(look, [crop], partial(weigh, names=names)).probabilities
    assert answer.sum() == pytest.approx(1, abs=1e-6)
    return answer


def test_the_shape_of_the_nucleus_is_weighed_where_the_answer_is_doubtful() -> None:
    assert of_a_round_nucleus(0.45, 0.55, names=("lymphocyte", "monocyte"))[0] > 0.5
    same = of_a_round_nucleus(0.45, 0.55, names=("monocyte", "lymphocyte"))
    assert same == pytest.approx([0.45, 0.55])


def test_the_shape_of_the_nucleus_makes_no_answer_surer() -> None:
    answer = of_a_round_nucleus(0.9, 0.08, 0.02, names=("lymphocyte", "neutrophil", "platelet"))
    assert answer[0] == pytest.approx(0.9, abs=1e-6)


def test_what_the_shape_makes_likeliest_stays_so_though_it_is_no_surer() -> None:
    answer = of_a_round_nucleus(0.36, 0.34, 0.3, names=("neutrophil", "lymphocyte", "platelet"))
    assert answer.argmax() == 1
    assert answer[1] < 0.55


def test_a_sure_answer_is_not_looked_at_again() -> None:
    asked = []

    def look(crops: Sequence[Image]) -> Answers:
        asked.append(len(crops))
        return by_corner(crops)

    sure, doubtful = square(*[(250, 0)] * 4), square(*[(128, 0)] * 4)
    answers = consider(look, [sure, doubtful, sure], unweighed)
    assert asked == [3, 7]
    assert answers.probabilities[[0, 2], 0] == pytest.approx(250 / 255)
    asked.clear()
    consider(look, [sure], unweighed)
    assert asked == [1]


def test_each_doubtful_crop_is_judged_by_its_own_sides_and_nucleus() -> None:
    crops = [
        square(*[(250, 0)] * 4),
        square((100, 8), (250, 0), (250, 0), (250, 0)),
        square((150, 0), (5, 0), (5, 0), (5, 0)),
    ]
    weighed: list[Image] = []

    def weigh_none(probabilities: Probabilities, seen: Sequence[Image]) -> Probabilities:
        weighed.extend(seen)
        return probabilities

    together = consider(by_corner, crops, weigh_none)
    assert [any(crop is seen for seen in weighed) for crop in crops] == [False, True, True]
    for i, crop in enumerate(crops):
        alone = consider(by_corner, [crop], unweighed)
        assert together.probabilities[i] == pytest.approx(alone.probabilities[0], abs=1e-6)
        assert together.strangeness[i] == pytest.approx(alone.strangeness[0])


def test_no_crop_is_no_answer() -> None:
    assert consider(by_corner, [], unweighed).probabilities.shape == (0, 2)


def test_the_evidence_shown_is_that_of_the_class_decided_in_the_end() -> None:
    evidence = np.array([[[[1.0, 0.0]], [[0.0, 4.0]]]], np.float32)  # one crop, 2 x 1 places, two classes

    def look(crops: Sequence[Image]) -> Answers:
        found = by_corner(crops)
        return Answers(found.probabilities, found.strangeness, evidence if len(crops) == 1 else None)

    answers = consider(look, [square((140, 0), (20, 0), (20, 0), (20, 0))], unweighed)
    assert answers.probabilities[0].argmax() == 1
    assert answers.heat is not None
    assert answers.heat[0].ravel().tolist() == [0, 1]
