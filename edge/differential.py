"""The differential: counts of cells to percentages of leukocytes, with their limits."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

import numpy as np

from edge.cells import CellClass, Role


@dataclass(frozen=True, slots=True)
class Share:
    """One counted class; percentages are None while nothing is counted."""

    count: int
    percent: float | None
    low: float | None
    """Lower 95 % limit, percent."""
    high: float | None
    """Upper 95 % limit, percent."""


@dataclass(frozen=True, slots=True)
class Differential:
    """What has been counted, by class name in the order of the model's card."""

    counts: Mapping[str, int]
    """Cells of every class, whatever its role."""
    total: int
    """Cells of counted classes: the 100 (or 200)."""
    shares: Mapping[str, Share]
    """Counted classes alone."""
    per_100: Mapping[str, float | None]
    """Classes reported per 100 counted cells (nucleated red cells); None while nothing is counted."""


def shown(value: float, decimals: int = 1) -> str:
    """Return a figure as every screen and message has it: the nearest number, of two as near the larger.

    So does the page's toFixed; Python's own formats take the even one (0.25 would be 0.2).
    """
    return str(Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def differential(names: Iterable[str], classes: Sequence[CellClass]) -> Differential:
    """Fold the class names of counted cells into the differential of a specimen.

    Raises:
        KeyError: a name is not among `classes`.
    """
    counts = dict.fromkeys((c.name for c in classes), 0)
    for name in names:
        counts[name] += 1
    total = sum(counts[c.name] for c in classes if c.role is Role.COUNTED)
    shares = {c.name: _share(counts[c.name], total) for c in classes if c.role is Role.COUNTED}
    per_100 = {
        c.name: 100 * counts[c.name] / total if total else None for c in classes if c.role is Role.PER_100
    }
    return Differential(counts, total, shares, per_100)


def _share(count: int, total: int) -> Share:
    if total == 0:
        return Share(0, None, None, None)
    low, high = clopper_pearson(count, total)
    return Share(count, 100 * count / total, 100 * low, 100 * high)


@lru_cache(maxsize=4096)
def clopper_pearson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact limits (0..1) of a proportion `count` / `total`.

    Clopper and Pearson 1934; Ruemke's tables for the differential (1959) are these limits. They
    cover the chance of which cells were met, not mistakes of the classifier.

    Raises:
        ValueError: `count` is not in 0..`total`, or `total` is 0.
    """
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"count {count} of {total}: a count in 0..total and a total above 0 expected")
    tail = (1 - confidence) / 2
    low = _solve(lambda p: 1 - _at_most(count - 1, total, p) - tail) if count else 0.0
    high = _solve(lambda p: tail - _at_most(count, total, p)) if count < total else 1.0
    return low, high


def _at_most(count: int, total: int, p: float) -> float:
    """Return the binomial probability of `count` or fewer of `total`, 0 < `p` < 1."""
    k = np.arange(count + 1)
    return float(
        np.exp(_log_choose(total)[: count + 1] + k * math.log(p) + (total - k) * math.log1p(-p)).sum()
    )


@lru_cache(maxsize=16)
def _log_choose(total: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(
        [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(total + 1)]
    )


def _solve(rising: Callable[[float], float]) -> float:
    """Return the root in 0..1 of a rising function, to 1e-12, by bisection."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
