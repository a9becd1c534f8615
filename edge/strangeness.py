"""How unlike the training cells a cell is, whatever class the network gives it.

The network's second output, the embedding, is a linear map of its pooled features in which the cells of a
class lie round their mean with variance 1 in each direction. The distance to the nearest class mean
(Mahalanobis; Lee et al. 2018, arXiv:1807.03888) is large for what was never learned.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Familiar:
    """Where the training cells lie in the embedding."""

    means: NDArray[np.float32]
    """Shape (classes, dimensions)."""
    limit: float
    """The distance that 1 in 100 validation cells exceeds."""

    def strangeness(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the distance to the nearest class over `limit`, shape (cells,): above 1 is strange.

        Args:
            embedding: of the cells, shape (cells, dimensions).
        """
        return distance(embedding, self.means) / np.float32(self.limit)

    def facts(self) -> dict[str, Any]:
        """Return it as a model's card keeps it."""
        return {"means": np.round(self.means, 3).tolist(), "limit": round(self.limit, 4)}


def read_familiar(facts: Mapping[str, Any]) -> Familiar:
    """Return what `Familiar.facts` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    means = np.asarray(facts["means"], np.float32)
    limit = float(facts["limit"])
    if means.ndim != 2 or not np.isfinite(means).all() or not 0 < limit < math.inf:
        raise ValueError(f"means of shape {means.shape}, finite ones expected, limit {limit}")
    return Familiar(means, limit)


def distance(embedding: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance of each embedding (cells, dimensions) to the nearest mean, shape (cells,)."""
    gaps = embedding[:, None, :] - means[None]
    return np.asarray(np.sqrt((gaps**2).sum(axis=2).min(axis=1)), np.float32)
