import keras
import numpy as np
import pytest

from convert.heat_map import HEAT, with_heat_map
from training import gradcam, model

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

CROPS = np.random.default_rng(0).integers(0, 256, (6, 96, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    built = model.build("mobilenet_v3_small", 5, None, size=96)
    features = keras.Model(built.input, built.get_layer(model.FEATURES).output)
    head = built.get_layer(model.HEAD)
    kernel, bias = head.get_weights()
    # Without trained weights the features are tiny.
    head.set_weights([kernel / features.predict(CROPS.astype(np.float32), verbose=0).std(), bias])
    return built


def test_the_map_is_grad_cam_but_for_its_rounding(network: keras.Model) -> None:
    """Grad-CAM of each class, from gradients, against the output; both scaled to their strongest place."""
    drawn = keras.Model(network.input, with_heat_map(network, CROPS).outputs[-1])
    maps = drawn.predict(CROPS.astype(np.float32), verbose=0)
    assert maps.shape == (6, 3, 3, 5)
    compared = 0
    for c in range(5):
        heats = gradcam.heat_maps(network, CROPS, [c] * 6)
        for heat, found in zip(heats, maps[..., c], strict=True):
            assert found.min() >= 0
            if found.max() > maps.max() / 10:  # of a weak map, rounding leaves little
                assert heat[16::32, 16::32] == pytest.approx(found / found.max(), abs=0.06)
                compared += 1
    assert compared >= 10


def test_the_other_outputs_stay(network: keras.Model) -> None:
    both = with_heat_map(network, CROPS)
    assert both.get_layer(HEAT).kernel.shape == (1, 1, 576, 5)
    images = CROPS.astype(np.float32)
    assert np.array_equal(both.predict(images, verbose=0)[0], network.predict(images, verbose=0))
