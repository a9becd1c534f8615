import keras
import numpy as np
import pytest

from convert.equalise import Act, equalise, fit, relu, swish
from edge.errors import UserError

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

CROPS = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8)


def rounding_error(values: np.ndarray, step: float) -> np.ndarray:
    return np.abs(np.round(values / step) * step - values).mean(axis=0)


@pytest.fixture(params=[swish, relu])
def network(request: pytest.FixtureRequest) -> keras.Model:
    """Begins as MobileNet-V3-Small; one channel lies near 15, one varies by a hundredth of the others."""
    keras.utils.set_random_seed(2)
    image = keras.Input((24, 24, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    first = keras.layers.BatchNormalization(name="first")
    swished = keras.layers.Activation("silu", name="activation")
    x = (swished if request.param is swish else keras.layers.ReLU(name="activation"))(first(x))
    x = keras.layers.DepthwiseConv2D(3, use_bias=False)(x)
    x = keras.layers.BatchNormalization(name="second")(x)
    built = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))
    first.set_weights([np.array(w, np.float32) for w in ([3, 0.3, 0.03, 3], [0, 15, 3, 1], [0] * 4, [1] * 4)])
    return built


@pytest.mark.parametrize("activation", [swish, relu])
def test_channels_out_of_the_way_come_to_use_the_range(activation: Act) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal((0, 15, 3, 0), (2, 0.3, 0.03, 2), (4000, 4))
    found = fit(values, activation)
    seen = activation(found.stretch * values + found.move)
    again = found.slope * seen + found.offset
    assert np.abs(again - activation(values))[:, 1:3].max() < 0.05
    end = seen.max()
    assert end <= activation(values).max()
    error = np.abs(found.slope) * rounding_error(seen, end / 255)
    plain = rounding_error(activation(values), activation(values).max() / 255)
    assert (error[1:3] < plain[1:3] / 2).all()
    assert (error[[0, 3]] <= plain[[0, 3]] * 1.1).all()


def test_a_channel_that_is_silent_on_the_crops_is_kept() -> None:
    values = np.random.default_rng(1).normal((-90, 0), (0.5, 2), (4000, 2))
    found = fit(values, relu)
    assert (found.stretch[0], found.move[0], found.slope[0], found.offset[0]) == (1, 0, 1, 0)


@pytest.mark.parametrize("activation", [swish, relu])
def test_what_strange_pictures_hold_is_not_cut_off(activation: Act) -> None:
    values = np.random.default_rng(1).normal((15, 4), (0.3, 0.1), (4000, 2))
    found = fit(values, activation)
    strange = np.median(values, axis=0) + 2.5 * (values - np.median(values, axis=0))
    again = found.slope * activation(found.stretch * strange + found.move) + found.offset
    assert (np.abs(again - activation(strange)).max(axis=0) < 0.05 * strange.std(axis=0)).all()


def test_the_network_answers_as_before(network: keras.Model) -> None:
    equal = equalise(network, CROPS)
    before, after = (np.asarray(n.predict(CROPS.astype(np.float32), verbose=0)) for n in (network, equal))
    assert np.abs(after - before).max() < 0.1 * before.std()
    values = [
        np.asarray(keras.Model(n.input, n.get_layer("activation").output)(CROPS)) for n in (network, equal)
    ]
    spread = [v.reshape(-1, 4).std(axis=0) / v.max() for v in values]
    assert (spread[1][1:3] > 3 * spread[0][1:3]).all()


def test_a_network_that_begins_otherwise_is_told() -> None:
    image = keras.Input((24, 24, 3))
    plain = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(UserError, match="does not begin as a MobileNet-V3-Small"):
        equalise(plain, CROPS)
