"""MobileNet-V3-Small with a head for cells, made fit for integers.

Two things differ from `keras.applications.MobileNetV3Small`, and both are there because the model
ends as an INT8 file:

- Hard-swish becomes swish, x * sigmoid(x), the function that hard-swish approximates (Howard et al.
  2019, section 5.2). The runtime executes integer LOGISTIC and MUL inside its delegate, but not an
  integer HARD_SWISH: the network stays one piece.
- Channels of the squeeze-and-excite blocks that are dead in the ImageNet weights (largest weight
  below 1e-3) are drawn anew. Their integer scales would be 1e-8 and less, which the runtime refuses.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

SIZE = 224
"""Side of the input in pixels."""


def build(classes: int, weights: str | None, dropout: float = 0.2, seed: int = 0) -> keras.Model:
    """Return the model: RGB 0..255 (`SIZE`, `SIZE`, 3) in, `classes` probabilities out.

    Args:
        classes: number of outputs.
        weights: a Keras weights file without top, "imagenet" for Keras' own download, None for none.
        dropout: share of the pooled features dropped in training.
        seed: of the new weights.
    """
    stock = keras.applications.MobileNetV3Small(
        input_shape=(SIZE, SIZE, 3), include_top=False, weights=weights, include_preprocessing=True
    )
    backbone = keras.models.clone_model(stock, call_function=_with_swish)
    backbone.set_weights(stock.get_weights())
    _revive_dead_channels(backbone, np.random.default_rng(seed))
    _freeze_batch_norm(backbone)
    pooled = keras.layers.GlobalAveragePooling2D(name="features")(backbone.output)
    dropped = keras.layers.Dropout(dropout, seed=seed)(pooled)
    initial = keras.initializers.GlorotUniform(seed=seed)
    head = keras.layers.Dense(classes, activation="softmax", kernel_initializer=initial, name="probabilities")
    return keras.Model(backbone.input, head(dropped), name="wbc")


def _with_swish(layer: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.hard_silu:
        return keras.layers.Activation("silu", name=f"{layer.name}_swish")(*args, **kwargs)
    return layer(*args, **kwargs)


def _revive_dead_channels(backbone: keras.Model, rng: np.random.Generator, dead_below: float = 1e-3) -> None:
    layers: Mapping[str, Any] = {layer.name: layer for layer in backbone.layers}
    for name, squeeze in layers.items():
        if not name.endswith("squeeze_excite_conv"):
            continue
        excite = layers[f"{name}_1"]
        (kernel, bias), (out_kernel, out_bias) = squeeze.get_weights(), excite.get_weights()
        dead = np.abs(kernel).max(axis=(0, 1, 2)) < dead_below
        fan_in = kernel.shape[2]
        kernel[..., dead] = rng.normal(0, fan_in**-0.5, kernel[..., dead].shape)
        bias[dead] = 0
        out_kernel[:, :, dead, :] = rng.normal(0, 0.01, out_kernel[:, :, dead, :].shape)
        squeeze.set_weights([kernel, bias])
        excite.set_weights([out_kernel, out_bias])


def _freeze_batch_norm(backbone: keras.Model) -> None:
    """Keep the ImageNet statistics: those of one laboratory's images do not hold in another's."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
