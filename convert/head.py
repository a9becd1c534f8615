"""Teach the head of a rounded network to read its rounded features.

What rounding adds to the features is no mere noise: in a strange stain it leans to one side, and the answers
with it, from eosinophils to neutrophils most. The head is linear, so the one that comes nearest to the float
network's answers is found in one step (ridge regression). It stays near the head as it was; nothing before it
changes.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convert.fold import centred
from training.model import HEAD

_STAY = 1.0
"""What a change of the head costs, over the variance of a feature. From a tenth to ten times as much, cells
in other stains are named alike; less takes other laboratories' answers away from the float network's."""
_LEAST_DOUBT = 0.02
"""Weight of a crop on which the float network has no doubt; p (1 - p), summed, is added to it."""


def fit_head(
    rounded: keras.Model,
    like_file: keras.Model,
    network: keras.Model,
    crops: NDArray[np.uint8],
) -> None:
    """Fit the head of `rounded`, in place, to what the float network answers.

    Args:
        rounded: the network that is to be converted.
        like_file: the same with rounded weights: its features are those of the file.
        network: the float network.
        crops: training cells in other stains, RGB, shape (n, height, width, 3).
    """
    kernel, bias = rounded.get_layer(HEAD).get_weights()
    features, exact = _features(like_file, crops, centred), _features(network, crops)
    own_kernel, own_bias = network.get_layer(HEAD).get_weights()
    wanted = exact @ own_kernel + own_bias
    missing = wanted - features @ kernel - bias
    likely = np.exp(wanted - wanted.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    weight = (likely * (1 - likely)).sum(axis=1, keepdims=True) + _LEAST_DOUBT
    middle = features.mean(axis=0)
    rows = np.concatenate([features - middle, np.ones((len(features), 1))], axis=1)
    stay = np.full(rows.shape[1], _STAY * len(rows) * weight.mean() * features.var(axis=0).mean())
    stay[-1] = 0  # the bias is free
    # Where no feature varies there is nothing to solve for: the least change is taken.
    change, *_ = np.linalg.lstsq(rows.T @ (weight * rows) + np.diag(stay), rows.T @ (weight * missing))
    rounded.get_layer(HEAD).set_weights([kernel + change[:-1], bias + change[-1] - middle @ change[:-1]])


def _features(
    network: keras.Model,
    crops: NDArray[np.uint8],
    taken: Callable[[NDArray[np.uint8]], NDArray[Any]] = np.asarray,
    batch: int = 64,
) -> NDArray[np.float64]:
    """Return what the head reads, shape (n, features), of crops, which the network takes as `taken` gives."""
    probe = keras.Model(network.input, network.get_layer(HEAD).input)
    parts = [
        np.asarray(probe.predict_on_batch(taken(crops[start : start + batch]).astype(np.float32)))
        for start in range(0, len(crops), batch)
    ]
    return np.concatenate(parts).astype(np.float64)
