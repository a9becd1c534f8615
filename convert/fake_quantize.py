"""Teach a float model to live with eight-bit activations.

Stock post-training quantization takes the least and the greatest value of every tensor for its range.
In this network single outliers lie two to four times beyond the rest, so most of the 256 steps are
never used. Here each range is a percentile instead, the model is fine-tuned with its activations rounded
and clipped to those ranges (straight-through gradients) to answer as the float model does, and the
ranges travel to the converter as fake-quantization nodes, which it honours.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import UserError
from training.train import Batches

Range = tuple[float, float]

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
_NOT_STORED = frozenset(("InputLayer", "ZeroPadding2D", "Dropout"))
"""Operations that leave their input's values, and so its range, as they are."""


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


def check_supported(network: keras.Model) -> None:
    """Check that every operation has a known integer form.

    Raises:
        UserError: names those that have not.
    """
    strange = sorted({type(op).__name__ for op in network.operations} - _SUPPORTED)
    if strange:
        raise UserError(
            f"no integer form is known for {', '.join(strange)}; supported: {', '.join(sorted(_SUPPORTED))}"
        )


def stored_operations(network: keras.Model) -> list[Any]:
    """Return the operations whose outputs the integer file keeps as tensors.

    BatchNormalization is folded into the convolution before it, and ReLU into whatever comes before.
    """

    def stored(op: Any) -> bool:
        following = {type(node.operation).__name__ for node in op._outbound_nodes}
        if type(op).__name__ in _NOT_STORED or "ReLU" in following:
            return False
        return not (
            isinstance(op, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
            and "BatchNormalization" in following
        )

    return [op for op in network.operations if stored(op)]


def measure_ranges(
    network: keras.Model, crops: NDArray[np.uint8], percentile: float = 99.99, batch: int = 32, seed: int = 0
) -> dict[str, Range]:
    """Return for each stored operation, by name, the range that holds all but the outermost values.

    Args:
        network: the float model.
        crops: (n, height, width, 3) RGB, what the file will see.
        percentile: upper end of the range; the lower end is 100 less this. 0 is always inside.
        batch: crops at a time.
        seed: of the sample of values that percentiles are taken from.
    """
    operations = stored_operations(network)
    outputs = keras.Model(network.input, [op.output for op in operations])
    rng = np.random.default_rng(seed)
    samples: dict[str, list[NDArray[np.float32]]] = {op.name: [] for op in operations}
    for start in range(0, len(crops), batch):
        values = outputs.predict(crops[start : start + batch].astype(np.float32), verbose=0)
        for op, tensor in zip(operations, values, strict=True):
            flat = tensor.ravel()
            samples[op.name].append(flat[rng.integers(0, flat.size, min(flat.size, 100_000))])
    ranges = {}
    for name, parts in samples.items():
        low, high = np.percentile(np.concatenate(parts), (100 - percentile, percentile))
        ranges[name] = (min(float(low), 0.0), max(float(high), 1e-3))
    return ranges


def with_fake_quantization(network: keras.Model, ranges: Mapping[str, Range]) -> keras.Model:
    """Return a copy of the model, weights included, whose stored tensors are rounded to their ranges."""

    def call(op: Any, *args: Any, **kwargs: Any) -> Any:
        output = op(*args, **kwargs)
        if op.name not in ranges:
            return output
        return FakeQuantize(*ranges[op.name], name=f"{op.name}_range")(output)

    copy = keras.models.clone_model(network, call_function=call)
    copy.set_weights(network.get_weights())
    return copy


class Lessons(keras.utils.PyDataset):
    """Batches of a training set with the float model's answers in place of the labels."""

    def __init__(self, batches: Batches, teacher: keras.Model, count: int) -> None:
        super().__init__()
        self._batches, self._teacher, self._count = batches, teacher, min(count, len(batches))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        crops, _ = self._batches[index]
        return crops, self._teacher.predict_on_batch(crops)


def fine_tune(
    student: keras.Model, teacher: keras.Model, batches: Batches, *, steps: int, learning_rate: float
) -> None:
    """Train `student` in place to answer as `teacher` does, on at most `steps` batches."""
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    student.compile(keras.optimizers.Adam(rate), keras.losses.KLDivergence())
    student.fit(Lessons(batches, teacher, steps), epochs=1, verbose=2)
