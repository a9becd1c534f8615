"""How large a cell is beside the others of its smear: that tells a small lymphocyte from a monocyte.

The network sees each cell equally large, and in another laboratory's stain it takes the one for the other.
Size holds in every laboratory, once the scale is known. The ruler are the cells themselves: those that the
network is sure of must have the sizes of their classes. No calibration and no red cells are needed (a lysing
stain leaves none), and how tightly boxes are drawn does not matter.
"""

from collections import deque
from collections.abc import Mapping, Sequence

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
    "erythroblast": (-0.45, 0.19),
}
"""Size of each class: the median of ln(longer side of the box / that of a neutrophil), and the standard
deviation. Of the PBC training cells that the locator finds whole, as `python -m training.sizes` prints it;
it hardly finds platelets."""

_RULERS = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
"""Classes whose sure cells are the ruler."""
_BETWEEN = 0.15
"""Standard deviation of ln(size) that another laboratory's smears add: spread more or less, dried, boxed."""
_WRONG = 0.1
"""Share of the boxes that are no measure of their cell: two touching ones, a smeared one."""
_RANGE = 2.0
"""Width of the range of ln(size) in which such boxes lie, all sizes alike."""
_LEAST_CELLS = 20
"""Sure cells without which there is no ruler."""
_MOST_CELLS = 500
"""The latest sure cells that the ruler is made of."""
_LEAST_GAIN = 0.08
"""Share by which sizes must scatter less about those of their classes than about one size for all. Real
images gain 0.1 to 0.33; where scales are mixed, or each image is scaled to its cell, less than 0.07
(simulated with PBC, Zheng 1 and BCCD)."""


class Sizes:
    """The sizes of the cells of one specimen, or of one laboratory's images.

    Args:
        classes: of the model, in order.
    """

    def __init__(self, classes: Sequence[CellClass]) -> None:
        names = [c.name for c in classes]
        self._rulers = {i for i, name in enumerate(names) if name in _RULERS}
        self._typical = np.array([TYPICAL.get(name, (np.nan, np.nan)) for name in names])
        self._measured: deque[tuple[float, float]] = deque(maxlen=_MOST_CELLS)
        """Of each sure cell, ln(side), and the typical ln(size) of its class."""

    def note(self, probabilities: Probabilities, side_px: float) -> None:
        """Make a cell part of the ruler if its class is sure.

        Args:
            probabilities: shape (classes,).
            side_px: longer side of its box; nan where it was not measured.
        """
        top = int(probabilities.argmax())
        if top in self._rulers and probabilities[top] >= SURE and side_px > 0:
            self._measured.append((float(np.log(side_px)), float(self._typical[top, 0])))

    @property
    def neutrophil_px(self) -> float | None:
        """Longer side of a neutrophil's box, pixels; None where sizes tell nothing.

        That is where sure cells are too few, all of one class, or not of the sizes of their classes.
        """
        if len(self._measured) < _LEAST_CELLS:
            return None
        sides, typical = np.array(self._measured).T
        if _scatter(sides - typical) > (1 - _LEAST_GAIN) * _scatter(sides):
            return None
        return float(np.exp(np.median(sides - typical)))

    def weigh(self, probabilities: Probabilities, sides_px: ArrayLike) -> Probabilities:
        """Return the probabilities given the sizes too, by Bayes' rule; as they are where sizes tell nothing.

        Args:
            probabilities: what the network says, shape (cells, classes).
            sides_px: longer sides of the boxes, shape (cells,); nan where a cell was not measured.
        """
        unit = self.neutrophil_px
        sides = np.asarray(sides_px, np.float64)
        if unit is None:
            return probabilities
        likely = self._likelihood(np.log(np.where(sides > 0, sides, np.nan) / unit))
        weighed = probabilities * likely
        return np.asarray(weighed / weighed.sum(axis=1, keepdims=True), np.float32)

    def _likelihood(self, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how likely each ln(size) is in each class, shape (cells, classes): 1 for nan."""
        middle, spread = self._typical.T
        spread = np.hypot(spread, _BETWEEN)
        away = (sizes[:, None] - middle) / spread
        normal = np.exp(-0.5 * away**2) / (spread * np.sqrt(2 * np.pi))
        likely = (1 - _WRONG) * normal + _WRONG / _RANGE
        # Of a class whose size nobody has measured a size says as much as of the others together.
        unknown = np.isnan(middle)
        likely[:, unknown] = likely[:, ~unknown].mean(axis=1, keepdims=True)
        likely[np.isnan(sizes)] = 1
        return likely


def _scatter(values: NDArray[np.float64]) -> float:
    return float(np.abs(values - np.median(values)).mean())
