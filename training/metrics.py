"""Figures of a classifier, from its answers alone (numpy and the standard library)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.differential import clopper_pearson

Labels = NDArray[np.int64]
"""Class indices, shape (cells,)."""
REVIEW_SHARE = 0.05
"""Share of the cells, the least sure, that go to review."""
_DRAWS = 2000
"""Of a bootstrap."""


def confusion_matrix(truth: Sequence[int], predicted: Sequence[int], classes: int) -> NDArray[np.int64]:
    """Return counts of shape (classes, classes): row = true class, column = predicted class."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(truth, int), np.asarray(predicted, int)), 1)
    return matrix


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the share of right predictions, 0..1; nan for an empty matrix."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the mean sensitivity, 0..1, of the classes that occur; nan for an empty matrix."""
    support = confusion.sum(axis=1)
    seen = support > 0
    return float((np.diag(confusion)[seen] / support[seen]).mean()) if seen.any() else float("nan")


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1, 0..1, of the classes that occur; nan for an empty matrix."""
    seen = confusion.sum(axis=1) > 0
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float((2 * np.diag(confusion)[seen] / both[seen]).mean()) if seen.any() else float("nan")


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


def bootstrap(
    truth: Labels,
    predicted: Labels,
    classes: int,
    figure: Callable[[NDArray[np.int64]], float],
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a `figure` of the confusion matrix.

    Cells are drawn with replacement, which is the same as a multinomial draw of the matrix's entries. Where
    every cell is right, or none, it would have no width; its other limit is the exact one of a share then.
    """
    matrix = confusion_matrix(truth.tolist(), predicted.tolist(), classes)
    total = int(matrix.sum())
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(total, matrix.ravel() / total, size=_DRAWS)
    values = [figure(d.reshape(classes, classes)) for d in drawn]
    low, high = np.nanquantile(values, (0.025, 0.975))
    # Where all are right each draw is too, however few they are.
    least = clopper_pearson(total, total)[0] if np.trace(matrix) == total else 1.0
    most = clopper_pearson(0, total)[1] if np.trace(matrix) == 0 else 0.0
    return min(float(low), least), max(float(high), most)


def summary(truth: Labels, predicted: Labels, classes: Sequence[str]) -> dict[str, Any]:
    """Return what follows from the confusion matrix, ready for JSON.

    Keys: accuracy, balanced_accuracy, macro_f1, intervals (95 %, of these three), classes, confusion,
    per_class. What has no denominator is None.
    """
    matrix = confusion_matrix(truth.tolist(), predicted.tolist(), len(classes))
    of_interest = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
    return {
        **{name: figure(matrix) for name, figure in of_interest.items()},
        "intervals": {
            name: list(bootstrap(truth, predicted, len(classes), figure))
            for name, figure in of_interest.items()
        },
        "classes": list(classes),
        "confusion": matrix.tolist(),
        "per_class": {
            name: {key: None if math.isnan(value) else value for key, value in row.items()}
            for name, row in per_class(matrix, classes).items()
        },
    }


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability diagram."""

    confidence: float
    """Mean of its cells, 0..1."""
    accuracy: float
    cells: int


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = 15) -> list[Bin]:
    """Return the bars of the reliability diagram, `bins` of equal width over 0..1; empty ones left out."""
    place = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    return [
        Bin(float(confidence[place == i].mean()), float(right[place == i].mean()), int((place == i).sum()))
        for i in np.unique(place)
    ]


def calibration_error(bars: Sequence[Bin]) -> float:
    """Return the expected calibration error, 0..1 (Guo et al. 2017): mean gap of the bars, by their cells."""
    total = sum(b.cells for b in bars)
    return sum(b.cells * abs(b.accuracy - b.confidence) for b in bars) / total if total else float("nan")


def review_curve(doubt: NDArray[np.floating], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the accuracy of what is left when the most doubtful cells go to a person.

    Args:
        doubt: higher is sent first, shape (cells,).
        right: whether the prediction is right, shape (cells,).

    Returns:
        Shape (cells, 2): share sent to review (0 first), accuracy of the rest.
    """
    order = np.argsort(np.asarray(doubt), kind="stable")
    kept = np.cumsum(right[order])[::-1]
    number = np.arange(len(right), 0, -1)
    return np.column_stack([1 - number / len(right), kept / number])


def accuracy_after_review(curve: NDArray[np.float64], share: float) -> float:
    """Return the accuracy of the rest, on a `review_curve`, when at most `share` goes to review."""
    return float(curve[curve[:, 0] <= share + 1e-12][-1, 1])


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Return cells only A, only B has right, and the exact two-sided p (McNemar 1947, binomial form)."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return only_a, only_b, min(1.0, 2 * tail)
