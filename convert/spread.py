"""Give every channel before a pointwise convolution its share of 256 steps, before it is rounded.

What a convolution of one pixel reads may be stretched channel by channel if its kernel takes that back, also
through ReLU and through the gates of squeeze-and-excite blocks; where no ReLU stands between, it may be moved
too. The answers stay as they are: no border is padded there, and nothing bends. Of one tensor of the network
the widest channel reached to 119 and most not to 10, which got a tenth of the steps each.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

_END = 0.9995
"""Quantile of what a channel holds that is taken for its end: single outliers are not worth the steps."""
_MOST = 32.0
"""How much further than the widest a channel is stretched at most: a silent one may yet be roused."""
_EVERY = 11
"""One place in so many is looked at; no map is a multiple of it wide, so that all columns have their turn."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """A tensor whose channels may be stretched."""

    before: Any
    """The BatchNormalization that scales it."""
    tensor: Any
    readers: list[Any]
    """The pointwise convolutions behind it."""
    after: list[Any]
    """The BatchNormalization of each, to take back a move; empty where it cannot be moved."""


def spread(network: keras.Model, crops: NDArray[np.int8], batch: int = 32) -> keras.Model:
    """Return a copy of a folded network that answers the same, its channels having like ranges.

    Args:
        network: what `convert.fold.fold` returns.
        crops: what the file will see, as `convert.fold.centred` has it, shape (n, height, width, 3).
        batch: crops at a time.
    """
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    spots = [spot for op in copy.operations if (spot := _spot(op))]
    if not spots:
        return copy
    probe = keras.Model(copy.input, [spot.tensor for spot in spots])
    held: list[list[NDArray[np.float32]]] = [[] for _ in spots]
    for start in range(0, len(crops), batch):
        tensors = keras.tree.flatten(probe.predict_on_batch(crops[start : start + batch].astype(np.float32)))
        for kept, tensor in zip(held, tensors, strict=True):
            kept.append(np.asarray(tensor).reshape(-1, tensor.shape[-1])[::_EVERY].copy())
    for spot, kept in zip(spots, held, strict=True):
        _change(spot, np.concatenate(kept))
    return copy


def _spot(operation: Any) -> _Spot | None:
    """Return the tensor that an operation scales, if pointwise convolutions alone read it."""
    if not (isinstance(operation, keras.layers.BatchNormalization) and operation.scale and operation.center):
        return None
    last, following = operation, _following(operation)
    if len(following) == 1 and _stretches(following[0]):
        last, following = following[0], _following(following[0])
    bare = last is operation
    readers: dict[str, Any] = {}
    while following:
        reader = following.pop()
        if isinstance(reader, keras.layers.GlobalAveragePooling2D | keras.layers.Multiply):
            following += _following(reader)
            bare = False
        elif type(reader) is keras.layers.Conv2D and reader.kernel_size == (1, 1) and reader.groups == 1:
            readers[reader.name] = reader
        else:
            return None
    if not readers:
        return None
    after = [layer for reader in readers.values() for layer in _following(reader)]
    bare = bare and all(isinstance(layer, keras.layers.BatchNormalization) for layer in after)
    return _Spot(operation, last.output, list(readers.values()), after if bare else [])


def _stretches(operation: Any) -> bool:
    """Return whether an operation makes of a stretched channel the same, stretched."""
    return (
        isinstance(operation, keras.layers.ReLU) and operation.max_value is None and not operation.threshold
    )


def _following(operation: Any) -> list[Any]:
    return [node.operation for node in operation._outbound_nodes]


def _change(spot: _Spot, values: NDArray[np.float32]) -> None:
    """Stretch and move each channel, and take that back behind it."""
    low, high = np.quantile(values, [1 - _END, _END], axis=0)
    middle = (low + high) / 2 if spot.after else np.zeros_like(low)
    reach = np.quantile(np.abs(values - middle), _END, axis=0)
    widest = max(float(reach.max()), 1e-6)
    stretch = widest / np.maximum(reach, widest / _MOST)
    scale, shift, *statistics = spot.before.get_weights()
    spot.before.set_weights([scale * stretch, (shift - middle) * stretch, *statistics])
    for reader, after in zip(spot.readers, spot.after or [None] * len(spot.readers), strict=True):
        kernel, *bias = reader.get_weights()
        if after:
            scale, shift, mean, variance = after.get_weights()
            missing = (kernel[0, 0] * middle[:, None]).sum(axis=0)
            after.set_weights([scale, shift, mean - missing, variance])
        reader.set_weights([kernel / stretch[:, None], *bias])
