import keras
import numpy as np
import pytest

from convert.fake_quantize import (
    FakeQuantize,
    check_supported,
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
    assert {"relu", "pool", "head"} <= names
    assert not {"conv", "norm"} & names


def test_ranges_leave_out_the_outermost_values_and_hold_zero(network: keras.Model) -> None:
    wide, tight = (measure_ranges(network, CROPS, percentile) for percentile in (100, 99))
    assert all(low <= 0 < high for low, high in wide.values())
    assert tight["relu"][1] < wide["relu"][1]


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
