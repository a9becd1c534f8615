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
_GATE = ["Conv2D", "Add", "ReLU", "Multiply", "Multiply", "Conv2D"]
"""From the convolution before a gate to the one behind its product; the first Multiply is the gate's own."""


def centred(crops: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return pictures as the folded network takes them: grey levels less `MIDDLE`, -128..127."""
    return (crops.astype(np.int16) - MIDDLE).astype(np.int8)


def fold(network: keras.Model) -> keras.Model:
    """Return a network that answers to a `centred` picture what `network` answers to the picture.

    It rounds what it is given to whole grey levels. Where the first convolution reaches beyond the border
    the two differ by half a grey level.

    Args:
        network: begins with Rescaling to -1..1 or alike, Conv2D and BatchNormalization; between its layers
            are no operations but those of the gates, as in Keras' MobileNet-V3.

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
    """Return the Rescaling, the first convolution and its BatchNormalization."""
    found = _way(network.layers[0], 4)[1:]
    if [type(op).__name__ for op in found] == ["Rescaling", "Conv2D", "BatchNormalization"]:
        rescaling, first, normalisation = found
        # Beyond the border lies 0: it must be the middle of the grey levels before and after.
        middle = abs(MIDDLE * rescaling.scale + rescaling.offset) < rescaling.scale
        if middle and first.activation is keras.activations.linear and normalisation.scale:
            return found
    raise UserError("the network does not begin as a MobileNet-V3; train one with training.train")


def _gates(network: keras.Model) -> list[tuple[Any, Any, Any, Any]]:
    """Return of each gate the convolution before it, its addition and multiplication, and the next one."""
    bare = [op for op in network.operations if not isinstance(op, keras.layers.Layer)]
    found = []
    for add in (op for op in bare if type(op).__name__ == "Add"):
        given = add._inbound_nodes[0].arguments.args[0]
        if not keras.backend.is_keras_tensor(given):
            continue
        way = _way(given._keras_history.operation, 6)
        if [type(op).__name__ for op in way] != _GATE or way[1] is not add or way[3] not in bare:
            continue
        before, multiply, behind = way[0], way[3], way[5]
        if before.use_bias and all(isinstance(_constant(op), float) for op in (add, multiply)):
            found.append((before, add, multiply, behind))
    if len(bare) != 2 * len(found):
        raise UserError("the network's gates are not those of a MobileNet-V3; train one with training.train")
    return found


def _way(operation: Any, length: int) -> list[Any]:
    """Return the operation and those that follow, `length` at most, as long as each has one reader alone."""
    way = [operation]
    while len(way) < length and len(nodes := way[-1]._outbound_nodes) == 1:
        way.append(nodes[0].operation)
    return way


def _constant(operation: Any) -> Any:
    """Return what a bare operation adds or multiplies by: a float, if it is a gate's."""
    return operation._inbound_nodes[0].arguments.args[1]
