import math

import numpy as np
import pytest

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
