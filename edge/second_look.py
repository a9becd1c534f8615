"""A doubtful cell is looked at from eight sides, and at the shape of its nucleus, before it is named.

A cell has no upper side, but a network answers a turned or mirrored crop a little differently, and an
integer file rounds each differently: the mean over the eight is right more often than any one of them. Sure
answers hardly change, so only the doubtful crops pay for it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from edge.cells import Answers, Image, Probabilities

SURE = 0.95
"""Confidence (0..1) from which the first look is enough."""
LEAST = 1 / 512
"""Probability (0..1) that a class counts with at least: no single look has a veto."""


def turned(crop: Image) -> list[Image]:
    """Return the other seven of the eight ways to lay a square: quarter turns, and their mirror images."""
    quarters = [np.rot90(crop, quarter) for quarter in range(4)]
    sides = quarters + [side[:, ::-1] for side in quarters]
    return [np.ascontiguousarray(side) for side in sides[1:]]


def consider(
    look: Callable[[Sequence[Image]], Answers],
    crops: Sequence[Image],
    weigh: Callable[[Probabilities, Sequence[Image]], Probabilities],
) -> Answers:
    """Return what `look` says of the crops, of the doubtful ones as the mean over their eight sides.

    The mean is that of the scores, the geometric one of the probabilities; the shape of the nucleus is
    weighed with it (`edge.lobes`), and may change the answer, but makes none surer. Maps of the evidence
    are those of the crops as they lie.

    Args:
        look: asks the model about crops.
        crops: square, RGB.
        weigh: returns probabilities, shape (cells, classes), given the shapes of the nuclei in their crops.
    """
    first = look(crops)
    doubtful = np.flatnonzero(first.probabilities.max(axis=1, initial=0) < SURE).tolist()
    if not doubtful:
        return first
    more = look([side for i in doubtful for side in turned(crops[i])])
    probabilities, strangeness = first.probabilities.copy(), first.strangeness.copy()
    sides = np.concatenate(
        [probabilities[doubtful, None], more.probabilities.reshape(len(doubtful), 7, -1)], axis=1
    )
    mean = np.exp(np.log(np.maximum(sides, LEAST)).mean(axis=1))
    mean /= mean.sum(axis=1, keepdims=True)
    weighed = weigh(mean, [crops[i] for i in doubtful])
    probabilities[doubtful] = _no_surer(weighed, mean.max(axis=1))
    strangeness[doubtful] = (strangeness[doubtful] + more.strangeness.reshape(-1, 7).sum(axis=1)) / 8
    return Answers(probabilities, strangeness, first.evidence)


def _no_surer(probabilities: Probabilities, most: Probabilities) -> Probabilities:
    """Return the rows with `most` at most for the likeliest class of each, which it stays."""
    rows, tops = np.arange(len(probabilities)), probabilities.argmax(axis=1)
    top = probabilities[rows, tops].astype(np.float64)
    rest = np.maximum(1 - top, 1e-12)
    second = np.sort(probabilities, axis=1)[:, -2] / rest if probabilities.shape[1] > 1 else 0 * top
    limited = np.minimum(top, np.maximum(most, second / (1 + second) + LEAST))
    less = np.asarray(probabilities * ((1 - limited) / rest)[:, None], np.float32)
    less[rows, tops] = limited
    return less
