"""How lobed a nucleus is: round in a lymphocyte, notched in a monocyte, in lobes in a neutrophil.

A network learns that from one laboratory's images, with much that holds there alone. An outline is hardly a
matter of stain or camera: in lymphocytes, monocytes and neutrophils of Zheng 1 and BCCD the medians of both
measures lie within a standard deviation or so of those of PBC. So where the network is in doubt, the shape of
the nucleus is weighed with its answer by Bayes' rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image, Probabilities
from edge.preprocess import CONTEXT
from edge.ruler import stain

TYPICAL: Mapping[str, tuple[float, float, float, float, float]] = {
    "basophil": (0.469, 0.938, 0.047, 0.041, 0.78),
    "eosinophil": (0.381, 0.893, 0.084, 0.100, 0.83),
    "lymphocyte": (0.503, 0.964, 0.028, 0.031, 0.58),
    "monocyte": (0.425, 0.919, 0.057, 0.050, 0.63),
    "neutrophil": (0.304, 0.806, 0.055, 0.078, 0.75),
    "immature_granulocyte": (0.447, 0.937, 0.049, 0.057, 0.56),
    "erythroblast": (0.515, 0.976, 0.044, 0.049, 0.71),
}
"""Of each class with a nucleus the medians of `Shape.disc` and `Shape.hull`, their standard deviations, and
their correlation: of the PBC training cells, as `python -m training.sizes` prints them."""
_PARTLY_SEEN = 2.0
"""Factor on the spread within a class: much of the shape the network has seen."""
_WRONG = 0.3
"""Share of the outlines that are not their nucleus': blurred, torn, or of two cells. Of 0.1 and this, and of
factors of 1.5 to 2.5, each named more cells of BCCD and Zheng 1 rightly, over the models tried."""
_RANGE = 0.3
"""Area of the range of both measures in which such outlines lie, all alike."""
_SIDE = 128
"""Side of the crop that is measured, pixels."""
_INNER = slice(round(_SIDE * (1 - 1 / CONTEXT) / 2), round(_SIDE * (1 + 1 / CONTEXT) / 2))
"""Where the cell's box lies in it."""
_DARKEST = 97
"""Percentile of the chromatin's density in the box that is taken for the nucleus at its densest."""
_LEAST, _MOST = 0.35, 0.75
"""Of that the nucleus' edge has so much at least, and at most; between them Otsu's threshold says where."""
_LOBE = 0.06
"""Area of a lobe over the largest one's, at least."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a nucleus."""

    disc: float
    """Radius of the widest disc in it over the root of its area: 0.56 in a disc, less in lobes."""
    hull: float
    """Its area over that of its convex hull, all lobes together, 0..1."""


def shape(crop: Image) -> Shape | None:
    """Return the shape of the nucleus in a crop as the network sees it, RGB; None where it shows none."""
    small = np.asarray(cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    nuclear = stain(small).nuclear[_INNER, _INNER]
    densest = float(np.percentile(nuclear, _DARKEST))
    if densest <= 0:
        return None
    levels = np.clip(255 * nuclear / densest, 0, 255).astype(np.uint8)
    edge, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    dark = (levels > min(max(edge, 255 * _LEAST), 255 * _MOST)).astype(np.uint8)
    dark = np.asarray(cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not areas.size:
        return None
    lobes = 1 + np.flatnonzero(areas >= _LOBE * areas.max())
    outlines, _ = cv2.findContours(
        np.isin(labels, lobes).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    nucleus, hull = np.zeros_like(dark), np.zeros_like(dark)
    cv2.drawContours(nucleus, outlines, -1, 1, cv2.FILLED)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outlines)), 1)
    area = float(nucleus.sum())
    # A rim of glass: what the box cuts ends there.
    depth = cv2.distanceTransform(
        cv2.copyMakeBorder(nucleus, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5
    )
    return Shape(float(depth.max()) / area**0.5, area / float(hull.sum()))


def weigh(probabilities: Probabilities, crops: Sequence[Image], names: Sequence[str]) -> Probabilities:
    """Return the probabilities given the shapes of the nuclei too, by Bayes' rule.

    A class that is not of `TYPICAL` keeps its share, the others divide theirs anew.

    Args:
        probabilities: what the network says, shape (cells, classes).
        crops: of the cells, as it sees them, RGB.
        names: of the classes, in order.
    """
    known = [i for i, name in enumerate(names) if name in TYPICAL]
    weighed = probabilities.astype(np.float64)
    for row, crop in zip(weighed, crops, strict=True):
        found = shape(crop)
        if found is not None and known:
            theirs = row[known] * [_likelihood(names[i], found) for i in known]
            row[known] = theirs * row[known].sum() / max(theirs.sum(), 1e-12)
    return np.asarray(weighed, np.float32)


def _likelihood(name: str, found: Shape) -> float:
    """Return how likely a shape is in a class."""
    disc, hull, *_ = TYPICAL[name]
    inverse, peak = _spread(name)
    away = np.array([found.disc - disc, found.hull - hull])
    return float((1 - _WRONG) * peak * np.exp(-0.5 * away @ inverse @ away) + _WRONG / _RANGE)


@cache
def _spread(name: str) -> tuple[NDArray[np.float64], float]:
    """Return the inverse covariance of a class's shapes, shape (2, 2), and their density in the middle."""
    _, _, disc, hull, correlation = TYPICAL[name]
    sides = _PARTLY_SEEN * np.array([disc, hull])
    covariance = np.outer(sides, sides) * [[1, correlation], [correlation, 1]]
    return np.asarray(np.linalg.inv(covariance)), float(1 / (2 * np.pi * np.linalg.det(covariance) ** 0.5))
