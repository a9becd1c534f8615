"""Fold into the convolutions what a MobileNet-V3 computes beside them, before it is rounded.

Every tensor that the integer file stores is rounded, and some of them say nothing new: the picture scaled
to -1..1, and what a squeeze-and-excite block's gate, relu6(x + 3) / 6, holds on its way. Offsets and scales
before and behind a convolution are offsets of its bias and scales of its kernel.
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convert.fake_quantize import FakeQuantize
from edge.errors import UserError

MIDDLE = 128
"""Grey level that is 0 for the folded network, as for the integers of the file."""


def centred(crops: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return pictures as the folded network takes them: grey levels less `MIDDLE`, -128..127."""
    return (crops.astype(np.int16) - MIDDLE).astype(np.int8)


def fold(network: keras.Model) -> keras.Model:
    """Return a network that answers to a `centred` picture what `network` answers to the picture.

    Where the first convolution reaches beyond the border the two differ by half a grey level.

    Args:
        network: begins with Rescaling, Conv2D and BatchNormalization; between its layers are no operations
            but those of the gates, as in Keras' MobileNet-V3.

    Raises:
        UserError: it is made otherwise.
    """
    rescaling, first, normalisation = _beginning(network)
    gates = _gates(network)
    passed_over = {rescaling.name, *(op.name for _, *ops, _ in gates for op in ops)}

    def call(op: Any, *args: Any, **kwargs: Any) -> Any:
        if op.name in passed_over:
            return args[0]
        if op.name == first.name:
            return op(FakeQuantize(-MIDDLE, 255 - MIDDLE, name="picture_range")(*args), **kwargs)
        return op(*args, **kwargs)

    copy = keras.models.clone_model(network, call_function=call)
    for layer in network.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    kernel, *bias = first.get_weights()
    copy.get_layer(first.name).set_weights([kernel * rescaling.scale, *bias])
    scale, shift, mean, variance = normalisation.get_weights()
    middle = MIDDLE * rescaling.scale + rescaling.offset
    mean = mean - middle * kernel.sum(axis=(0, 1, 2))
    copy.get_layer(normalisation.name).set_weights([scale, shift, mean, variance])
    for before, add, multiply, behind in gates:
        kernel, bias = before.get_weights()
        copy.get_layer(before.name).set_weights([kernel, bias + _constant(add)])
        kernel, *bias = behind.get_weights()
        copy.get_layer(behind.name).set_weights([kernel * _constant(multiply), *bias])
    return copy


def _beginning(network: keras.Model) -> list[Any]:
    found = network.layers[1:4]
    if [type(layer).__name__ for layer in found] != ["Rescaling", "Conv2D", "BatchNormalization"]:
        raise UserError("the network does not begin as a MobileNet-V3; train one with training.train")
    return list(found)


def _gates(network: keras.Model) -> list[tuple[Any, Any, Any, Any]]:
    """Return of each gate the convolution before it, its addition and multiplication, and the next one."""
    bare = [op for op in network.operations if not isinstance(op, keras.layers.Layer)]
    found = []
    for add in (op for op in bare if type(op).__name__ == "Add"):
        before = add._inbound_nodes[0].arguments.args[0]._keras_history.operation
        way = [before, add]
        while len(way) < 6 and len(following := _following(way[-1])) == 1:
            way += following
        kinds = [type(op).__name__ for op in way]
        if kinds == ["Conv2D", "Add", "ReLU", "Multiply", "Multiply", "Conv2D"]:
            found.append((before, add, way[3], way[5]))
    if len(bare) != 2 * len(found):
        raise UserError("the network's gates are not those of a MobileNet-V3; train one with training.train")
    return found


def _following(operation: Any) -> list[Any]:
    return [node.operation for node in operation._outbound_nodes]


def _constant(operation: Any) -> float:
    """Return the number that an operation adds or multiplies by."""
    return float(operation._inbound_nodes[0].arguments.args[1])
