"""The last steps of a run: confidences that are true, and a measure of what is unlike the training."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.strangeness import Familiar, distance
from training.batches import Exam
from training.callbacks import Watch
from training.model import FEATURES, HEAD

EMBEDDING = "embedding"
"""Name of the second output."""
_DIMENSIONS = 32
"""Of the embedding; the directions in which the training cells of a class differ most."""
_LEAST_LIMIT = 1e-3
STRANGE_SHARE = 0.01
"""Share of the validation cells that the limit calls strange."""


def temperature(probabilities: NDArray[np.floating], truth: NDArray[np.int64]) -> float:
    """Return the temperature, 0.2 to 5, that makes the confidences most likely (Guo et al. 2017).

    Args:
        probabilities: of validation cells, shape (cells, classes).
        truth: class indices, shape (cells,).
    """
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-12))
    grid = np.geomspace(0.2, 5, 400)
    return float(grid[int(np.argmin([_loss(logits / t, truth) for t in grid]))])


def _loss(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((total - logits[np.arange(len(truth)), truth]).mean())


def set_temperature(network: keras.Model, value: float) -> None:
    """Divide the head's scores by `value`, in its weights: the file needs nothing beside it."""
    head = network.get_layer(HEAD)
    head.set_weights([w / value for w in head.get_weights()])


def add_to_scores(network: keras.Model, amounts: NDArray[np.floating]) -> None:
    """Add to the score of each class, in the head's weights; `amounts` has shape (classes,)."""
    head = network.get_layer(HEAD)
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias + amounts])


def finish(
    network: keras.Model, learned: Exam, judged: Exam, correction: NDArray[np.floating]
) -> tuple[keras.Model, dict[str, Any]]:
    """Return the network with true confidences and an embedding, and what its card says of both.

    Args:
        network: fitted; its head's weights change in place.
        learned: training cells as they are.
        judged: validation cells.
        correction: added to the classes' scores in the end, shape (classes,).
    """
    probe = keras.Model(network.input, [network.output, network.get_layer(FEATURES).output])
    probabilities, checked = (
        np.asarray(answer) for answer in probe.predict(judged, verbose=0, callbacks=[Watch()])
    )
    degree = temperature(probabilities, judged.truth.argmax(axis=1))
    set_temperature(network, degree)
    add_to_scores(network, correction)
    features = np.asarray(probe.predict(learned, verbose=0, callbacks=[Watch()])[1])
    both, familiar = add_embedding(network, (features, learned.truth.argmax(axis=1)), checked)
    return both, {"temperature": round(degree, 4), "familiar": familiar.facts()}


def add_embedding(
    network: keras.Model,
    learned: tuple[NDArray[np.floating], NDArray[np.int64]],
    checked: NDArray[np.floating],
) -> tuple[keras.Model, Familiar]:
    """Return the network with the embedding as second output, and where the training cells lie in it.

    Args:
        network: its first output are probabilities.
        learned: features (cells, channels) and class indices (cells,) of training cells.
        checked: features of validation cells, which set the limit.
    """
    kernel, bias = _whitening(*learned, _DIMENSIONS)
    layer = keras.layers.Dense(kernel.shape[1], name=EMBEDDING, trainable=False)
    features = network.get_layer(FEATURES).output
    both = keras.Model(network.input, [network.output, layer(features)], name=network.name)
    layer.set_weights([kernel, bias])
    return both, _familiar(learned[0] @ kernel + bias, learned[1], checked @ kernel + bias)


def _whitening(
    features: NDArray[np.floating], truth: NDArray[np.int64], dimensions: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the linear map (kernel, bias) in which the cells of a class have variance 1."""
    values = np.asarray(features, np.float64)
    within = np.concatenate([values[truth == c] - values[truth == c].mean(axis=0) for c in np.unique(truth)])
    variance, axes = np.linalg.eigh(within.T @ within / len(within))
    chosen = slice(None, -min(dimensions, len(variance)) - 1, -1)
    # Directions in which next to nothing varies are not blown up.
    kernel = axes[:, chosen] / np.sqrt(np.maximum(variance[chosen], 1e-6 * variance[-1] + 1e-12))
    return kernel, -values.mean(axis=0) @ kernel


def _familiar(
    embedding: NDArray[np.floating], truth: NDArray[np.int64], checked: NDArray[np.floating]
) -> Familiar:
    means = np.stack([embedding[truth == c].mean(axis=0) for c in np.unique(truth)]).astype(np.float32)
    limit = float(np.quantile(distance(np.asarray(checked, np.float32), means), 1 - STRANGE_SHARE))
    # A network that has learned nothing may put all cells in one place.
    return Familiar(means, max(limit, _LEAST_LIMIT))
