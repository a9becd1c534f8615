import keras
import numpy as np
import pytest

from convert.fake_quantize import (
    FakeQuantize,
    check_supported,
    least_error_range,
    measure_ranges,
    stored_operations,
    with_fake_quantization,
)
from edge.errors import UserError

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax", name="head")(x))


CROPS = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)


def test_values_are_rounded_to_256_steps_and_clipped() -> None:
    values = np.linspace(-2, 5, 1000, dtype=np.float32)
    rounded = np.asarray(FakeQuantize(0.0, 2.55)(values))
    assert rounded.min() == 0
    assert rounded.max() == pytest.approx(2.55)
    inside = (values >= 0) & (values <= 2.55)
    assert np.abs(rounded - values)[inside].max() <= 0.0051
    assert len(np.unique(rounded)) == 256


def test_only_tensors_that_the_file_keeps_have_a_range(network: keras.Model) -> None:
    names = {op.name for op in stored_operations(network)}
    assert {"relu", "pool"} <= names
    assert not {"conv", "norm", "head"} & names


def test_ranges_of_a_network_hold_zero(network: keras.Model) -> None:
    ranges = measure_ranges(network, CROPS)
    assert set(ranges) == {op.name for op in stored_operations(network)}
    assert all(low <= 0 < high for low, high in ranges.values())


def test_a_lone_outlier_does_not_stretch_a_range() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 400_000), 30).astype(np.float32)
    low, high = least_error_range(values, lambda v: v)
    assert -8 < low < -3
    assert 3 < high < 20


def test_what_the_activation_flattens_gets_no_steps() -> None:
    values = np.random.default_rng(0).uniform(-60, 10, 40_000).astype(np.float32)

    def swish(v: np.ndarray) -> np.ndarray:
        return v / (1 + np.exp(-v))

    low, high = least_error_range(values, swish)
    plain, _ = least_error_range(values, lambda v: v)
    assert plain < -45
    assert -20 < low < -3
    assert 9 < high <= 10


def test_dropout_is_left_out_of_the_copy() -> None:
    image = keras.Input((4,))
    dropped = keras.layers.Dropout(0.5)(keras.layers.Dense(3, name="first")(image))
    noisy = keras.Model(image, keras.layers.Dense(2, name="second")(dropped))
    copy = with_fake_quantization(noisy, {})
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in copy.layers)
    given = np.ones((1, 4), np.float32)
    assert np.array_equal(copy.predict(given, verbose=0), noisy.predict(given, verbose=0))


def test_kernels_have_255_steps_a_channel_and_pass_the_gradient() -> None:
    image = keras.Input((16, 16, 3))
    wide = keras.layers.Conv2D(4, 3, use_bias=False, name="wide")(image)
    deep = keras.Model(image, keras.layers.DepthwiseConv2D(3, use_bias=False, name="deep")(wide))
    copy = with_fake_quantization(deep, {}, weights=True)
    given = CROPS.astype(np.float32) / 255

    def stepped(kernel: np.ndarray, channels: int) -> np.ndarray:
        axes = tuple(axis for axis in range(4) if axis != channels)
        step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
        return np.asarray(np.round(kernel / step) * step)

    by_hand = keras.models.clone_model(deep)
    for name, channels in (("wide", 3), ("deep", 2)):
        kernel = deep.get_layer(name).get_weights()[0]
        by_hand.get_layer(name).set_weights([stepped(kernel, channels)])
        assert np.array_equal(copy.get_layer(name).get_weights()[0], kernel)
    said = copy.predict(given, verbose=0)
    assert np.allclose(said, by_hand.predict(given, verbose=0), atol=1e-5)
    assert np.abs(said - deep.predict(given, verbose=0)).max() > 1e-4
    before = copy.get_weights()
    copy.compile("sgd", "mse")
    copy.train_on_batch(given, np.zeros_like(said))
    assert all((old != new).any() for old, new in zip(before, copy.get_weights(), strict=True))


def test_the_rounded_model_answers_almost_as_the_float_model(network: keras.Model) -> None:
    student = with_fake_quantization(network, measure_ranges(network, CROPS))
    exact, rounded = (m.predict(CROPS, verbose=0) for m in (network, student))
    assert np.abs(exact - rounded).max() < 0.03
    assert np.abs(exact - rounded).max() > 0


def test_an_operation_without_integer_form_is_named() -> None:
    image = keras.Input((4, 4, 3))
    odd = keras.Model(image, keras.layers.GaussianNoise(0.1)(image))
    with pytest.raises(UserError, match="GaussianNoise"):
        check_supported(odd)


@pytest.mark.parametrize("function", ["hard_silu", "gelu"])
def test_an_activation_that_the_runtime_does_not_take_is_named(function: str) -> None:
    image = keras.Input((4, 4, 3))
    odd = keras.Model(image, keras.layers.Activation(function)(image))
    with pytest.raises(UserError, match=f"no integer form is known for {function};.*--integers"):
        check_supported(odd)
