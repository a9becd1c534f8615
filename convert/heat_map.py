"""Let the integer file draw where it saw its class: an output more, and no gradient on the instrument.

Where the head is linear over averaged feature maps, the gradient of a class's score with respect to a map
is the head's weight over the map's size: Grad-CAM (Selvaraju et al. 2017, section 3.1) is the sum of the
maps with these weights, the class-activation map of Zhou et al. 2016. That sum is a 1x1 convolution.
"""

import keras
import numpy as np
from numpy.typing import NDArray

from convert.fake_quantize import FakeQuantize
from training.model import FEATURES, HEAD

HEAT = "heat"
"""Name of the layer."""


def with_heat_map(network: keras.Model, crops: NDArray[np.uint8 | np.int8]) -> keras.Model:
    """Return the network with a third output: what speaks for each class at each place, 0 and more.

    Args:
        network: pooled feature maps and a linear head.
        crops: (n, height, width, 3), as the network takes them, which set the range of the output.
    """
    maps = network.get_layer(FEATURES).input
    kernel = network.get_layer(HEAD).get_weights()[0]
    layer = keras.layers.Conv2D(kernel.shape[1], 1, use_bias=False, activation="relu", name=HEAT)
    speaks = layer(maps)
    layer.set_weights([kernel[None, None]])
    found = keras.Model(network.input, speaks).predict(crops.astype(np.float32), batch_size=32, verbose=0)
    ranged = FakeQuantize(0.0, max(float(np.max(found)), 1e-3), name=f"{HEAT}_range")(speaks)
    return keras.Model(network.input, [*network.outputs, ranged], name=network.name)
