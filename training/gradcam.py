"""Grad-CAM (Selvaraju et al. 2017): where in a crop the network saw the class that it names.

The gradient of the class's score (before the softmax) with respect to the last feature maps, averaged
over each map, is that map's weight; the weighted sum, less what speaks against the class, is resized
to the crop. Runs on whichever backend Keras runs on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from edge.errors import UserError

_LOCAL_POOLING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)

Score = Callable[[Any], Any]
"""Feature maps (n, height, width, channels) -> scores before the softmax (n, classes)."""


def heat_maps(
    network: keras.Model, crops: NDArray[np.uint8], classes: Sequence[int], batch: int = 16
) -> NDArray[np.float32]:
    """Return how much each place of a crop speaks for a class: 0..1, shape (n, size, size).

    The strongest place of each crop is 1; a map is 0 throughout where nothing speaks for the class.

    Args:
        network: feature maps, pooling and a head, as one functional graph; left as it is. The class
            scores are its first output.
        crops: RGB, shape (n, size, size, 3).
        classes: index of the output to explain, one for each crop.
        batch: crops that go through the network at once.

    Raises:
        UserError: the network has no feature maps to show.
    """
    if len(crops) != len(classes):
        raise UserError(f"Grad-CAM: {len(crops)} crops, but {len(classes)} classes; give one class a crop")
    maps = _last_maps(network)
    see, score = keras.Model(network.inputs[0], maps), _score(network, maps)
    heats = np.zeros(crops.shape[:3], np.float32)
    for start in range(0, len(crops), batch):
        part = slice(start, start + batch)
        seen = see(crops[part].astype(np.float32), training=False)
        gradient = _gradient(score, seen, classes[part])
        shown = keras.ops.convert_to_numpy(seen)
        heats[part] = [_heat(m, g, crops.shape[1]) for m, g in zip(shown, gradient, strict=True)]
    return heats


def overlay(crop: Image, heat: NDArray[np.float32], strength: float = 0.5) -> Image:
    """Return `crop` with `heat` (0..1, same height and width) laid over it in colour, RGB.

    The colours (viridis) grow lighter with the heat, so that they also read in grey and with any
    colour vision.

    Args:
        crop: RGB.
        heat: as `heat_maps` returns it for this crop.
        strength: share of the colour in the mixture, 0..1.
    """
    levels = np.rint(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    colour = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    mixed = (1 - strength) * crop + strength * np.asarray(colour, np.float32)
    return np.rint(mixed).astype(np.uint8)


def _last_maps(network: keras.Model) -> Any:
    """Return the feature maps in front of the head; a pooling that only thins them (VGG) is passed over."""
    for layer in reversed(network.layers):
        if _rank(layer.input) == 4 and _rank(layer.output) < 4:
            return _before_thinning(network, layer.input)
    raise UserError(
        f"{network.name}: no feature maps in front of a pooling; Grad-CAM needs a convolutional net"
    )


def _before_thinning(network: keras.Model, maps: Any) -> Any:
    for layer in network.layers:
        if isinstance(layer, _LOCAL_POOLING) and layer.output is maps:
            return layer.input
    return maps


def _rank(tensor: Any) -> int:
    """Return the number of axes; 0 for the several inputs of a layer that joins."""
    return len(tensor.shape) if hasattr(tensor, "shape") else 0


def _score(network: keras.Model, maps: Any) -> Score:
    """Return the part of `network` from `maps` to its first output, without the softmax."""
    answer = network.outputs[0]
    last: Any = next((layer for layer in network.layers if layer.output is answer), None)
    if not isinstance(last, keras.layers.Dense):
        stripped = isinstance(last, keras.layers.Softmax | keras.layers.Activation)
        rest = keras.Model(maps, last.input if stripped else answer)
        return lambda seen: rest(seen, training=False)
    features = keras.Model(maps, last.input)

    def linear(seen: Any) -> Any:
        value = keras.ops.matmul(keras.ops.cast(features(seen, training=False), "float32"), last.kernel)
        return value if last.bias is None else value + last.bias

    return linear


def _gradient(score: Score, maps: Any, classes: Sequence[int]) -> NDArray[np.float32]:
    """Return the gradient of the score of each crop's class with respect to `maps`, of their shape."""
    rows = keras.ops.convert_to_tensor(np.asarray(classes, np.int32)[:, None])

    def total(seen: Any) -> Any:
        return keras.ops.sum(keras.ops.take_along_axis(score(seen), rows, axis=1))

    gradient = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}[keras.backend.backend()]
    return np.asarray(keras.ops.convert_to_numpy(gradient(total, maps)), np.float32)


def _tensorflow(total: Score, maps: Any) -> Any:
    import tensorflow

    with tensorflow.GradientTape() as tape:
        tape.watch(maps)
        value = total(maps)
    return tape.gradient(value, maps)


def _torch(total: Score, maps: Any) -> Any:
    import torch

    leaf = maps.detach().requires_grad_()
    return torch.autograd.grad(total(leaf), leaf)[0]


def _jax(total: Score, maps: Any) -> Any:
    import jax

    return jax.grad(total)(maps)


def _heat(maps: NDArray[np.float32], gradient: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the heat of one crop from its maps and their gradient, both (height, width, channels)."""
    raw = np.maximum(maps.astype(np.float32) @ gradient.astype(np.float32).mean(axis=(0, 1)), 0)
    strongest = raw.max()
    heat = raw / strongest if strongest > 0 else raw
    return np.asarray(cv2.resize(heat, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
