"""No nucleus, no leukocyte: giant platelets and stained red cells are often far paler than any nucleus.

How dark nuclei are is a matter of stain, lamp and camera, so the specimen's own cells tell: those that the
network is sure of. How far they scatter, and the palest of them, tell what is too pale to be one.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from edge.cells import CellClass, Image, Probabilities, Role
from edge.preprocess import CONTEXT
from edge.second_look import LEAST, SURE

_SIDE = 48
"""Side of the reduced crop that is measured, pixels: noise and granules are averaged out."""
_INNER = slice(round(_SIDE * (1 - 1 / CONTEXT) / 2), round(_SIDE * (1 + 1 / CONTEXT) / 2))
"""Where the cell's box lies in it."""
_LIGHT, _DARK = 95, 3
"""Percentiles of the green light: of the crop, taken for its background, and of the box, for its nucleus."""
_BURNT = 253
"""Green (0..255) from which the background may be burnt out, and tells nothing."""
_LEAST_CELLS = 8
"""Sure cells without which nobody knows how dark nuclei are."""
_SCATTERS = 5.0
"""A nucleus lies so many standard deviations below the others at most, in ln(optical density)."""
_LEAST_GAP = 0.6
"""The limit lies at least so far below the others: at 0.55 of their density. Monocytes are the palest: of
2,411 labelled nucleated cells of PBC (validation) and BCCD none has less than 0.59 of the median density;
Zheng 1's go down to 0.27, but scatter six times as far as PBC's."""
_PALER, _PALER_GAP = 0.1, 0.2
"""Of sure cells so large a share may have no nucleus either. Where more are as pale, two stains share the
specimen, and what a person must look at lies so far below this quantile."""
_PALE_ONES = 1e-3
"""Share of nucleated cells that may yet be as pale."""
_NORMAL = 1.4826
"""Standard deviation over the median distance to the median, of a normal distribution."""


def reduced(crop: Image) -> Image:
    """Return a crop, or one channel of it, as it is measured, shape (48, 48, ...)."""
    return np.asarray(cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def density(crop: Image) -> float:
    """Return the optical density of the darkest part of a cell in green, natural logarithm, from 0.

    nan where the background is burnt out. A crop without bare glass shows too little.

    Args:
        crop: as the network sees it (`edge.preprocess.crop`), RGB; or that, reduced.
    """
    green = reduced(np.asarray(cv2.extractChannel(crop, 1), np.uint8))
    light = float(np.percentile(green, _LIGHT))
    dark = float(np.percentile(green[_INNER, _INNER], _DARK))
    return math.nan if light >= _BURNT else max(math.log((light + 1) / (dark + 1)), 0.0)


class Nuclei:
    """How dark the nuclei of one specimen are.

    Args:
        classes: of the model, in order.
    """

    def __init__(self, classes: Sequence[CellClass]) -> None:
        self._rejected = np.array([c.role is Role.REJECTED for c in classes])
        self._densities: list[float] = []
        """ln of that of each sure cell."""

    def note(self, network: Probabilities, strangeness: float, dark: float) -> None:
        """Take note of a cell, if it surely has a nucleus.

        Args:
            network: what the network says, shape (classes,).
            strangeness: of the cell; above 1 is unlike the training cells.
            dark: its `density`.
        """
        top = int(network.argmax())
        if network[top] >= SURE and strangeness <= 1 and not self._rejected[top] and dark > 0:
            self._densities.append(math.log(dark))

    @property
    def known(self) -> bool:
        """True where enough cells tell."""
        return len(self._densities) >= _LEAST_CELLS

    def lacks(self, network: Probabilities, dark: float) -> bool:
        """Return whether a cell that the network is unsure of is too pale to have a nucleus.

        False where nobody knows. Where two stains share a specimen the palest sure cell is the limit.

        Args:
            network: what the network says, shape (classes,).
            dark: its `density`.
        """
        palest = min(self._densities, default=0.0)
        return bool(network.max() < SURE) and self.doubts(dark) and math.log(dark) < palest

    def doubts(self, dark: float) -> bool:
        """Return whether a cell is so pale that a person must look, however sure the network is.

        False where nobody knows.

        Args:
            dark: its `density`.
        """
        if not self.known or not dark > 0:
            return False
        usual = np.array(self._densities)
        middle = float(np.median(usual))
        scatter = _NORMAL * float(np.median(np.abs(usual - middle)))
        paler = float(np.quantile(usual, _PALER)) - _PALER_GAP
        return math.log(dark) < min(middle - max(_LEAST_GAP, _SCATTERS * scatter), paler)

    def without(self, probabilities: Probabilities) -> Probabilities:
        """Return the probabilities given that no nucleus is seen: by Bayes' rule, but for the least.

        A class without a nucleus is then the likeliest, whatever the network says, for it never excludes
        one altogether. They stay as they are where the model knows no such class.

        Args:
            probabilities: shape (classes,).
        """
        if not self._rejected.any():
            return probabilities
        likely = np.where(self._rejected, np.maximum(probabilities, LEAST), _PALE_ONES * probabilities)
        return np.asarray(likely / likely.sum(), np.float32)
