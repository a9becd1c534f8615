"""Give every channel before the first depthwise convolutions its share of 256 steps, before it is rounded.

Two of the 16 channels that MobileNet-V3-Small's first convolution makes lie near 15 and vary by 0.3: a
range from 0 to 16 leaves some five steps for what they say, and on pale pictures that decides the answer.
The depthwise convolution behind reads each channel by itself, so a channel may be stretched and moved, and
that convolution's weights take it back (cross-layer equalisation, Nagel et al. 2019, section 4.1). Behind
ReLU that is exact as long as nothing falls below 0 that did not before; behind swish it holds where swish is
nearly straight over what the channel holds. That is measured here, not assumed. The last layers lose less by
their steps than by the bend.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError

Values = NDArray[np.float64]
Act = Callable[[Values], Values]

_PLACES = 8
"""Behind an activation and before a depthwise convolution, from the network's beginning, of eleven."""
_STRETCHES = np.append(1.0, np.geomspace(0.25, 16, 19))
_TOPS = np.linspace(0.2, 1, 9)
"""Where the greatest value of a channel may come to lie, over the range's upper end."""
_ENDS = np.geomspace(0.4, 1, 5)
"""Upper ends of the range that are tried, over the greatest value."""
_HEADROOM = 2.5
"""Strange pictures may lie so many times further from a channel's median than the calibration crops do, and
should not be cut off or bent."""
_SAMPLE = 8_000
"""Values of each channel that are looked at."""
_STEPS = 255
_BEND_COSTS = 20.0
"""What the square of an error by the bend of the activation costs, over that of rounding.

Rounding errs to both sides and is gone in the mean over a neighbourhood; the bend errs to one side
everywhere, on strange pictures the most.
"""


@dataclass(frozen=True, slots=True)
class Fit:
    """What stands for a channel x: act(x) is nearly `slope` * act(`stretch` * x + `move`) + `offset`.

    Each has shape (channels,).
    """

    stretch: Values
    move: Values
    slope: Values
    offset: Values


def equalise(network: keras.Model, crops: NDArray[np.uint8], batch: int = 32, seed: int = 0) -> keras.Model:
    """Return a copy of the network that answers nearly the same, its channels having like ranges.

    Args:
        network: the float model; its first BatchNormalization goes through ReLU or swish and a depthwise
            convolution to the next one, as in MobileNet-V3-Small.
        crops: (n, height, width, 3) RGB, what the file will see.
        batch: crops at a time.
        seed: of the values that are looked at.

    Raises:
        UserError: the network begins with other layers.
    """
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    for before, activation, depthwise, after in _stages(copy)[:_PLACES]:
        probe = keras.Model(copy.input, before.output)
        rng = np.random.default_rng(seed)
        held = []
        for start in range(0, len(crops), batch):
            values = np.asarray(probe.predict_on_batch(crops[start : start + batch].astype(np.float32)))
            pixels = values.reshape(-1, values.shape[-1])
            held.append(pixels[rng.integers(0, len(pixels), 1 + _SAMPLE * batch // len(crops))])
        _change(fit(np.concatenate(held).astype(np.float64), activation), before, depthwise, after)
    return copy


def fit(values: Values, activation: Act) -> Fit:
    """Return how to stretch and move each channel so that rounding all to one range spoils them least.

    A channel's error is what rounding and, dearer, the bend of the activation add, over what it varies.

    Args:
        values: before the activation, shape (n, channels).
        activation: swish or ReLU.
    """
    middle = np.median(values, axis=0)
    values = middle + _HEADROOM * (values - middle)
    end = max(float(activation(values).max()), 1e-3)
    return min((_fit_to(values, activation, end * share) for share in _ENDS), key=lambda found: found[0])[1]


def _fit_to(values: Values, activation: Act, end: float) -> tuple[float, Fit]:
    """Return the mean error and the fit for a range that ends at `end`."""
    exact = activation(values)
    mean, top, channels = exact.mean(axis=0), values.max(axis=0), np.arange(values.shape[1])
    silent = exact.var(axis=0) == 0  # on these crops; others may yet rouse it
    errors, fits = [], []
    for stretch in _STRETCHES:
        for move in (np.zeros_like(top), *(share * end - stretch * top for share in _TOPS)):
            seen = np.minimum(activation(stretch * values + move), end)
            about = seen - seen.mean(axis=0)
            slope = (about * (exact - mean)).mean(axis=0) / np.maximum((about**2).mean(axis=0), 1e-9)
            slope[silent] = 1
            bend = ((exact - mean - slope * about) ** 2).mean(axis=0)
            errors.append(_BEND_COSTS * bend + slope**2 * (end / _STEPS) ** 2 / 12)
            fits.append((np.full_like(top, stretch), move, slope, mean - slope * seen.mean(axis=0)))
    best = np.argmin(errors, axis=0)
    error = np.array(errors)[best, channels] / (exact.var(axis=0) + 1e-6)
    return float(error.mean()), Fit(*np.array(fits)[best, :, channels].T)


def swish(values: Values) -> Values:
    """Return x * sigmoid(x)."""
    return np.asarray(values / (1 + np.exp(-np.clip(values, -60, 60))))


def relu(values: Values) -> Values:
    """Return what of the values is above 0."""
    return np.maximum(values, 0)


_LINKS = (
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.DepthwiseConv2D,
)


def _act(layer: keras.layers.Layer) -> Act | None:
    """Return what a layer makes of each value; None where it is neither swish nor ReLU."""
    if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.silu:
        return swish
    plain = isinstance(layer, keras.layers.ReLU) and layer.max_value is None
    return relu if plain and not layer.negative_slope and not layer.threshold else None


def _normalises(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center


def _stages(network: keras.Model) -> list[tuple[Any, Act, Any, Any]]:
    """Return each BatchNormalization before an activation, this, the depthwise convolution, and its own."""
    layers = [layer for layer in network.layers if isinstance(layer, _LINKS)]
    found = [
        (before, activation, depthwise, after)
        for before, bend, depthwise, after in zip(*(layers[at:] for at in range(4)), strict=False)
        if _normalises(before)
        and (activation := _act(bend))
        and isinstance(depthwise, keras.layers.DepthwiseConv2D)
        and _normalises(after)
    ]
    if not found or found[0][0] is not layers[0]:
        raise UserError("the network does not begin as a MobileNet-V3-Small; train one with training.train")
    return found


def _change(found: Fit, before: Any, depthwise: Any, after: Any) -> None:
    scale, shift, *statistics = before.get_weights()
    before.set_weights([scale * found.stretch, shift * found.stretch + found.move, *statistics])
    kernel, *bias = depthwise.get_weights()
    scale, shift, mean, variance = after.get_weights()
    # The border's padding of zeros stands for another value now: an error at the border alone.
    missing = found.offset * kernel[..., 0].sum(axis=(0, 1))
    depthwise.set_weights([kernel * found.slope[:, None], *bias])
    after.set_weights([scale, shift, mean - missing, variance])
