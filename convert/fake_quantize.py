"""A float model that rounds as its integer file will.

Stock post-training quantization takes the least and the greatest value of every tensor for its range.
In this network single outliers lie far beyond the rest, so most of the 256 steps are never used, and
what swish flattens to nothing takes as many steps as what it lets through. Here each range is the one
with the least error behind the activation. The copy of the model rounds and clips its stored tensors to
these ranges and its weights to 255 steps a channel, with straight-through gradients, so that it can learn to
live with that (`convert.distil`). The ranges travel to the converter as fake-quantization nodes, which it
honours.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import UserError

Range = tuple[float, float]

_STEPS = 255
"""Steps between the least and the greatest of 256 values."""
_SUPPORTED = frozenset(
    (
        "Activation",
        "Add",
        "BatchNormalization",
        "Conv2D",
        "Dense",
        "DepthwiseConv2D",
        "Dropout",
        "GlobalAveragePooling2D",
        "InputLayer",
        "Multiply",
        "ReLU",
        "Rescaling",
        "ZeroPadding2D",
    )
)
_FUNCTIONS = frozenset(("linear", "relu", "relu6", "silu", "softmax"))
"""Activations of which the runtime computes a whole network in integers as one part."""
_NOT_STORED = frozenset(("InputLayer", "FakeQuantize", "ZeroPadding2D", "Dropout"))
"""Operations that yield no tensor with a range of its own."""


@keras.saving.register_keras_serializable("convert")
class FakeQuantize(keras.layers.Layer):
    """Round to one of 256 steps between `low` and `high`, clip outside; the gradient passes inside."""

    def __init__(self, low: float, high: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, inputs: Any) -> Any:
        """Return the rounded values, same shape."""
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the symbol of the output: that of the input."""
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "low": self.low, "high": self.high}


class RoundedConv2D(keras.layers.Conv2D):
    """A convolution whose kernel is rounded as the integer file stores it."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Return the convolution with the rounded kernel."""
        return super().convolution_op(inputs, _round_kernel(kernel, channels=3))


class RoundedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """A depthwise convolution whose kernel is rounded as the integer file stores it."""

    def call(self, inputs: Any) -> Any:
        """Return the convolution with the rounded kernel."""
        kernel = _round_kernel(self.kernel, channels=2)
        found = keras.ops.depthwise_conv(
            inputs, kernel, self.strides, self.padding, self.data_format, self.dilation_rate
        )
        return self.activation(found + self.bias if self.use_bias else found)


_ROUNDED: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.Conv2D: RoundedConv2D,
    keras.layers.DepthwiseConv2D: RoundedDepthwiseConv2D,
}


def _round_kernel(kernel: Any, channels: int) -> Any:
    """Return the kernel in steps of 1/127 of each channel's largest weight; the gradient is that of `kernel`.

    BatchNormalization, which the converter folds into the kernel, stretches whole channels, so that the
    steps are the same before it.
    """
    kernel = tf.convert_to_tensor(kernel)
    axes = [axis for axis in range(4) if axis != channels]
    step = tf.maximum(tf.reduce_max(tf.abs(kernel), axes, keepdims=True) / 127, 1e-12)
    return kernel + tf.stop_gradient(tf.round(kernel / step) * step - kernel)


def check_supported(network: keras.Model) -> None:
    """Check that every operation has a known integer form.

    Raises:
        UserError: names those that have not.
    """
    activations = (getattr(op, "activation", None) for op in network.operations)
    functions = {getattr(a, "__name__", type(a).__name__) for a in activations if a is not None}
    strange = sorted({type(op).__name__ for op in network.operations} - _SUPPORTED)
    strange += sorted(functions - _FUNCTIONS)
    if strange:
        raise UserError(
            f"no integer form is known for {', '.join(strange)}; supported: "
            f"{', '.join(sorted(_SUPPORTED | _FUNCTIONS))} (MobileNet-V3 by `training.train --integers`)"
        )


def stored_operations(network: keras.Model) -> list[Any]:
    """Return the operations whose outputs the integer file keeps as tensors.

    BatchNormalization is folded into the convolution before it, and ReLU into whatever comes before.
    Softmax always has steps of 1/256: a range of its own would only round its output a second time.
    """

    def stored(op: Any) -> bool:
        following = {type(node.operation).__name__ for node in op._outbound_nodes}
        fixed = getattr(op, "activation", None) is keras.activations.softmax
        if type(op).__name__ in _NOT_STORED or "ReLU" in following or fixed:
            return False
        return not (
            isinstance(op, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
            and "BatchNormalization" in following
        )

    return [op for op in network.operations if stored(op)]


def measure_ranges(
    network: keras.Model, crops: NDArray[np.uint8 | np.int8], batch: int = 32, seed: int = 0
) -> dict[str, Range]:
    """Return for each stored operation, by name, the range that spoils least what comes after it.

    Args:
        network: the float model.
        crops: (n, height, width, 3), what the network will see.
        batch: crops at a time.
        seed: of the sample of values that the error is taken from.
    """
    operations = stored_operations(network)
    outputs = keras.Model(network.input, [op.output for op in operations])
    rng = np.random.default_rng(seed)
    samples: dict[str, list[NDArray[np.float32]]] = {op.name: [] for op in operations}
    for start in range(0, len(crops), batch):
        values = outputs.predict_on_batch(crops[start : start + batch].astype(np.float32))
        for op, tensor in zip(operations, values, strict=True):
            samples[op.name].append(rng.choice(tensor.ravel(), min(tensor.size, 2000), replace=False))
    return {op.name: least_error_range(np.concatenate(samples[op.name]), _after(op)) for op in operations}


def least_error_range(
    values: NDArray[np.float32], after: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> Range:
    """Return the range, with 0 inside, for which rounding `values` changes `after(values)` least.

    Args:
        values: sample of what a tensor holds, shape (n,).
        after: what becomes of each value; the error is the mean square of the difference behind it.
    """
    exact = after(values)
    shares = np.geomspace(0.1, 1, 14)
    lows = shares * min(float(values.min()), 0.0) if values.min() < 0 else [0.0]
    highs = shares * max(float(values.max()), 1e-3)
    candidates = [(float(low), float(high)) for low in lows for high in highs]
    errors = [np.mean((after(_rounded(values, *c)) - exact) ** 2) for c in candidates]
    return candidates[int(np.argmin(errors))]


def _rounded(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    step = np.float32((high - low) / _STEPS)
    zero = round(-low / step)
    return np.asarray((np.clip(np.round(values / step) + zero, 0, _STEPS) - zero) * step, np.float32)


def _after(op: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the activation that alone reads the operation's output, else the identity."""
    following = [node.operation for node in op._outbound_nodes]
    if len(following) == 1 and isinstance(following[0], keras.layers.Activation):
        activation = following[0].activation
        return lambda values: keras.ops.convert_to_numpy(activation(keras.ops.convert_to_tensor(values)))
    return lambda values: values


def with_fake_quantization(
    network: keras.Model, ranges: Mapping[str, Range], *, weights: bool = False
) -> keras.Model:
    """Return a copy of the model, whose stored tensors are rounded to their ranges.

    The copy has no Dropout, and keeps its BatchNorm statistics: what it is to learn is to round, not to
    generalise.

    Args:
        network: the float model.
        ranges: of its stored tensors, by the names of their operations.
        weights: round the kernels too. The converter does so itself.
    """

    def call(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, keras.layers.Dropout):
            return args[0]
        output = op(*args, **kwargs)
        if op.name not in ranges:
            return output
        return FakeQuantize(*ranges[op.name], name=range_name(op.name))(output)

    def twin(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = _ROUNDED.get(type(layer), type(layer)) if weights else type(layer)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(network, call_function=call, clone_function=twin)
    for layer in network.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
        if isinstance(layer, keras.layers.BatchNormalization):
            copy.get_layer(layer.name).trainable = False
    return copy


def range_name(operation: str) -> str:
    """Return the name of the layer that rounds what an operation yields."""
    return f"{operation}_range"
