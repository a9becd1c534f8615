"""How large a cell is beside the others of its smear: that tells a small lymphocyte from a monocyte.

The network sees each cell equally large, and in another laboratory's stain it takes the one for the other.
Size holds in every laboratory, once the scale is known. The ruler are the cells themselves: those that the
network is sure of must have the sizes of their classes, and they show how large each class is here, and how
much it varies. No calibration and no red cells are needed (a lysing stain leaves none), and how tightly boxes
are drawn does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.cells import CellClass, Probabilities
from edge.second_look import SURE

TYPICAL: Mapping[str, tuple[float, float]] = {
    "basophil": (0.01, 0.10),
    "eosinophil": (0.05, 0.09),
    "lymphocyte": (-0.24, 0.11),
    "monocyte": (0.17, 0.11),
    "neutrophil": (0.00, 0.09),
    "immature_granulocyte": (0.04, 0.14),
    "erythroblast": (-0.47, 0.21),
}
"""Size of each class: the median of ln(longer side of the box / that of a neutrophil), and the standard
deviation. Of the PBC training cells that the locator finds whole, as `python -m training.sizes` prints it;
it hardly finds platelets."""

_RULERS = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
"""Classes whose sure cells are the ruler."""
_BETWEEN = 0.15
"""Standard deviation of a class's ln(size) between laboratories: smears spread, dried and boxed otherwise."""
_PARTLY_SEEN = 2**0.5
"""Factor on the spread within a class, so that the size counts half: some of it the network has seen, by the
neighbours in the crop. Of 1, 1.2 and this, this named most PBC validation cells rightly, over five models
and with sizes weighed there too."""
_WRONG = 0.1
"""Share of the boxes that are no measure of their cell: two touching ones, a smeared one."""
_RANGE = 2.0
"""Width of the range of ln(size) in which such boxes lie, all sizes alike."""
_LEAST_CELLS = 20
"""Sure cells without which there is no ruler."""
_NO_HELP = 0.8
"""Share of sure cells from which the network needs no help: of its own laboratory's validation cells 0.93 to
0.97, of two others' 0.64 to 0.71, over six models."""
_LEAST_GAIN = 0.08
"""Share by which sizes must scatter less about those of their classes than about one size for all. Real
images gain 0.1 to 0.33; where scales are mixed, or each image is scaled to its cell, less than 0.07
(simulated with PBC, Zheng 1 and BCCD)."""
_NORMAL = (np.pi / 2) ** 0.5
"""Standard deviation over mean distance to the middle, of a normal distribution."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """How large the classes are in one specimen."""

    unit: float
    """ln(longer side of a neutrophil's box, pixels)."""
    middle: NDArray[np.float64]
    """ln(size) of each class, shape (classes,); nan for a class of unknown size."""
    spread: NDArray[np.float64]
    """Standard deviation of it, shape (classes,)."""


class Sizes:
    """The sizes of the cells of one specimen, or of one laboratory's images.

    Args:
        classes: of the model, in order.
    """

    def __init__(self, classes: Sequence[CellClass]) -> None:
        names = [c.name for c in classes]
        self._rulers = {i for i, name in enumerate(names) if name in _RULERS}
        self._typical = np.array([TYPICAL.get(name, (np.nan, np.nan)) for name in names])
        self._measured: list[tuple[float, int]] = []
        """Of each sure cell, ln(side) and the number of its class."""
        self._cells = self._sure = 0

    def note(self, probabilities: Probabilities, side_px: float) -> None:
        """Take note of a cell, and make it part of the ruler if its class is sure.

        Args:
            probabilities: shape (classes,).
            side_px: longer side of its box; nan where it was not measured.
        """
        top = int(probabilities.argmax())
        self._cells += 1
        if probabilities[top] >= SURE:
            self._sure += 1
            if top in self._rulers and side_px > 0:
                self._measured.append((float(np.log(side_px)), top))

    def weigh(self, probabilities: Probabilities, sides_px: ArrayLike) -> Probabilities:
        """Return the probabilities given the sizes too, by Bayes' rule.

        They stay as they are where the network is sure of nearly all cells, and where sizes tell nothing:
        where sure cells are too few, all of one class, or not of the sizes of their classes.

        Args:
            probabilities: what the network says, shape (cells, classes).
            sides_px: longer sides of the boxes, shape (cells,); nan where a cell was not measured.
        """
        scale = self._scale()
        if scale is None:
            return probabilities
        sides = np.asarray(sides_px, np.float64)
        likely = _likelihood(np.log(np.where(sides > 0, sides, np.nan)), scale)
        # A class whose size nobody has measured keeps its share; the others divide theirs anew.
        known = ~np.isnan(scale.middle)
        weighed = probabilities.astype(np.float64)
        theirs = weighed[:, known] * likely[:, known]
        share = weighed[:, known].sum(axis=1, keepdims=True)
        weighed[:, known] = theirs * share / np.maximum(theirs.sum(axis=1, keepdims=True), 1e-12)
        return np.asarray(weighed, np.float32)

    def _scale(self) -> _Scale | None:
        if len(self._measured) < _LEAST_CELLS or self._sure >= _NO_HELP * self._cells:
            return None
        sides, numbers = np.array(self._measured).T
        tops = numbers.astype(int)
        middle, spread = self._typical.T
        away = sides - middle[tops]
        if _scatter(away) >= (1 - _LEAST_GAIN) * _scatter(sides):
            return None
        unit = float(np.median(away))
        away -= unit
        usual = float(np.sqrt((spread[tops] ** 2).mean()))
        widening = max(1.0, _NORMAL * _scatter(away) / usual)
        shift, _ = _shifts(away, tops, widening * spread)
        widening = max(1.0, _NORMAL * _scatter(away - shift[tops]) / usual)
        within = _PARTLY_SEEN * widening * spread
        shift, unsure = _shifts(away, tops, within)
        return _Scale(unit, middle + shift, np.hypot(within, unsure))


def _shifts(
    away: NDArray[np.float64], tops: NDArray[np.int_], within: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much larger each class is here than usual, and how unsure that is, shape (classes,) each.

    The mean and standard deviation of the posterior: before any cell is seen, 0 and `_BETWEEN`.

    Args:
        away: of each sure cell, ln(size) less the usual one of its class.
        tops: the numbers of their classes.
        within: standard deviation of ln(size) within each class.
    """
    shift, unsure = np.zeros(len(within)), np.full(len(within), _BETWEEN)
    for top in np.unique(tops):
        cells = away[tops == top]
        both = len(cells) * _BETWEEN**2 + within[top] ** 2
        shift[top] = len(cells) * _BETWEEN**2 / both * np.median(cells)
        unsure[top] = _BETWEEN * within[top] / np.sqrt(both)
    return shift, unsure


def _likelihood(sides: NDArray[np.float64], scale: _Scale) -> NDArray[np.float64]:
    """Return how likely each ln(side) is in each class, shape (cells, classes).

    1 for a nan; nan in a class of unknown size.
    """
    away = (sides[:, None] - scale.unit - scale.middle) / scale.spread
    normal = np.exp(-0.5 * away**2) / (scale.spread * np.sqrt(2 * np.pi))
    likely = (1 - _WRONG) * normal + _WRONG / _RANGE
    likely[np.isnan(sides)] = 1
    return np.asarray(likely)


def _scatter(values: NDArray[np.float64]) -> float:
    """Return the mean distance to the median."""
    return float(np.abs(values - np.median(values)).mean())
