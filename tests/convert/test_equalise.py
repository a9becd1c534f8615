import keras
import numpy as np
import pytest

from convert.equalise import equalise, fit
from edge.errors import UserError

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

CROPS = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8)


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def rounding_error(values: np.ndarray, step: float) -> np.ndarray:
    return np.abs(np.round(values / step) * step - values).mean(axis=0)


@pytest.fixture
def network() -> keras.Model:
    """Begins as MobileNet-V3-Small; one channel lies near 15, one varies by a hundredth of the others."""
    keras.utils.set_random_seed(2)
    image = keras.Input((24, 24, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    first = keras.layers.BatchNormalization(name="first")
    x = keras.layers.Activation("silu", name="swish")(first(x))
    x = keras.layers.DepthwiseConv2D(3, use_bias=False)(x)
    x = keras.layers.BatchNormalization(name="second")(x)
    built = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))
    first.set_weights([np.array(w, np.float32) for w in ([3, 0.3, 0.03, 3], [0, 15, 3, 1], [0] * 4, [1] * 4)])
    return built


def test_channels_out_of_the_way_come_to_use_the_range() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal((0, 15, 3, 0), (2, 0.3, 0.03, 2), (4000, 4))
    found = fit(values)
    seen = swish(found.stretch * values + found.move)
    again = found.slope * seen + found.offset
    assert np.abs(again - swish(values))[:, 1:3].max() < 0.05
    end = seen.max()
    assert end <= swish(values).max()
    error = np.abs(found.slope) * rounding_error(seen, end / 255)
    plain = rounding_error(swish(values), swish(values).max() / 255)
    assert (error[1:3] < plain[1:3] / 3.5).all()
    assert (error[[0, 3]] <= plain[[0, 3]] * 1.01).all()


def test_the_network_answers_as_before(network: keras.Model) -> None:
    equal = equalise(network, CROPS)
    before, after = (np.asarray(n.predict(CROPS.astype(np.float32), verbose=0)) for n in (network, equal))
    assert np.abs(after - before).max() < 0.1 * before.std()
    values = [np.asarray(keras.Model(n.input, n.get_layer("swish").output)(CROPS)) for n in (network, equal)]
    spread = [v.reshape(-1, 4).std(axis=0) / v.max() for v in values]
    assert (spread[1][1:3] > 4 * spread[0][1:3]).all()


def test_a_network_that_begins_otherwise_is_told() -> None:
    image = keras.Input((24, 24, 3))
    plain = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(UserError, match="does not begin as a MobileNet-V3-Small"):
        equalise(plain, CROPS)
