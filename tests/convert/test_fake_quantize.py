from itertools import islice, repeat
from pathlib import Path

import keras
import numpy as np
import pytest

from convert.fake_quantize import (
    FakeQuantize,
    check_supported,
    fine_tune,
    least_error_range,
    lessons,
    measure_ranges,
    stored_operations,
    with_fake_quantization,
)
from edge.errors import UserError
from training import data
from training.batches import find_cells
from training.recipe import Balance

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


def test_fine_tuning_brings_the_copy_closer_to_the_float_model(
    network: keras.Model, capsys: pytest.CaptureFixture
) -> None:
    ranges = {name: (low / 3, high / 3) for name, (low, high) in measure_ranges(network, CROPS).items()}
    student = with_fake_quantization(network, ranges)
    exact = network.predict(CROPS, verbose=0)
    before = np.abs(student.predict(CROPS, verbose=0) - exact).mean()
    fine_tune(student, network, repeat(CROPS), steps=50, learning_rate=3e-3)
    after = np.abs(student.predict(CROPS, verbose=0) - exact).mean()
    assert after < before / 2
    assert np.array_equal(network.predict(CROPS, verbose=0), exact)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in printed] == ["batch 25 of 50", "batch 50 of 50"]


def test_lessons_are_crops_that_the_seed_decides(made_data: Path) -> None:
    cells = find_cells(data.select(data.load(made_data), "train"))
    first, again, other = (
        list(islice(lessons(cells, Balance.BLOOD, 64, seed, batch=4), 2)) for seed in (1, 1, 2)
    )
    assert all(crops.shape == (4, 64, 64, 3) for crops in first)
    assert all(crops.dtype == np.uint8 for crops in first)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


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
