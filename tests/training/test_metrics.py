import math

import numpy as np
import pytest

from training import metrics
from training.metrics import accuracy, confusion_matrix, per_class


def test_a_worked_example() -> None:
    matrix = confusion_matrix([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert accuracy(matrix) == pytest.approx(4 / 6)
    figures = per_class(matrix, ["a", "b", "c"])
    assert figures["a"] == pytest.approx(
        {"precision": 2 / 3, "sensitivity": 2 / 3, "f1": 2 / 3, "support": 3}
    )
    assert figures["b"] == pytest.approx({"precision": 2 / 3, "sensitivity": 1, "f1": 4 / 5, "support": 2})


def test_figures_without_a_denominator_are_not_numbers() -> None:
    figures = per_class(confusion_matrix([0], [0], 2), ["a", "b"])
    assert math.isnan(figures["b"]["precision"])
    assert math.isnan(figures["b"]["f1"])
    assert math.isnan(accuracy(np.zeros((2, 2), np.int64)))


def test_balanced_figures_leave_absent_classes_out() -> None:
    matrix = np.array([[8, 2, 0], [0, 1, 0], [0, 0, 0]])
    assert metrics.balanced_accuracy(matrix) == pytest.approx(0.9)
    assert metrics.macro_f1(matrix) == pytest.approx((16 / 18 + 2 / 4) / 2)


def test_the_bootstrap_interval_is_about_the_binomial_one() -> None:
    truth = np.zeros(400, np.int64)
    predicted = np.repeat([0, 1], [360, 40])
    low, high = metrics.bootstrap(truth, predicted, 2, metrics.accuracy)
    assert (low, high) == pytest.approx((0.9 - 1.96 * 0.015, 0.9 + 1.96 * 0.015), abs=0.004)


def test_a_few_cells_that_are_all_right_are_no_certainty() -> None:
    """Clopper and Pearson 1934: of 20 of 20 the lower limit is the 20th root of 0.025."""
    right = np.zeros(20, np.int64)
    assert metrics.bootstrap(right, right, 2, metrics.accuracy) == pytest.approx((0.025 ** (1 / 20), 1))
    assert metrics.bootstrap(right, 1 - right, 2, metrics.accuracy) == pytest.approx(
        (0, 1 - 0.025 ** (1 / 20))
    )


def test_the_calibration_error_is_the_mean_gap() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    bars = metrics.reliability(confidence, np.array([True, True, True, False]))
    assert [(b.accuracy, b.cells) for b in bars] == [(0.5, 2), (1.0, 2)]
    assert metrics.calibration_error(bars) == pytest.approx(0.05)


def test_review_takes_the_most_doubtful_first() -> None:
    curve = metrics.review_curve(np.array([0.1, 0.9, 0.2, 0.8]), np.array([True, False, True, True]))
    assert curve.tolist() == [[0, 0.75], [0.25, 1], [0.5, 1], [0.75, 1]]
    assert metrics.accuracy_after_review(curve, 0.2) == 0.75
    assert metrics.accuracy_after_review(curve, 0.25) == 1


def test_mcnemar_on_a_worked_example() -> None:
    a = np.array([True] * 10 + [False] * 2 + [True] * 5)
    b = np.array([False] * 10 + [True] * 2 + [True] * 5)
    only_a, only_b, p = metrics.mcnemar(a, b)
    assert (only_a, only_b) == (10, 2)
    assert p == pytest.approx(0.03857, abs=1e-5)  # 2 x P(Binomial(12, 1/2) <= 2)
