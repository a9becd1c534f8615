"""Figures of a classifier from its confusion matrix (numpy alone)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(truth: Sequence[int], predicted: Sequence[int], classes: int) -> NDArray[np.int64]:
    """Return counts of shape (classes, classes): row = true class, column = predicted class."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(truth, int), np.asarray(predicted, int)), 1)
    return matrix


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the share of right predictions, 0..1; nan for an empty matrix."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def per_class(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return precision TP/(TP+FP), sensitivity TP/(TP+FN), F1 (their harmonic mean) and support.

    A figure without a denominator (a class never predicted, or never seen) is nan.
    """
    right = np.diag(confusion).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = right / confusion.sum(axis=0)
        sensitivity = right / confusion.sum(axis=1)
        f1 = 2 * right / (confusion.sum(axis=0) + confusion.sum(axis=1))
    return {
        name: {
            "precision": float(precision[i]),
            "sensitivity": float(sensitivity[i]),
            "f1": float(f1[i]),
            "support": int(confusion[i].sum()),
        }
        for i, name in enumerate(names)
    }
