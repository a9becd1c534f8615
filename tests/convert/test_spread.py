import keras
import numpy as np
import pytest

from convert.fold import centred, fold
from convert.spread import spread
from training import model

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

_RNG = np.random.default_rng(0)
CROPS = centred((_RNG.random((12, 64, 64, 3)) * _RNG.uniform(20, 256, (12, 1, 1, 3))).astype(np.uint8))
GATED, BARE, ADDED = (
    "expanded_conv_squeeze_excite_mul",
    "expanded_conv_project_bn",
    "expanded_conv_2_project_bn",
)


@pytest.fixture(scope="module")
def networks() -> tuple[keras.Model, keras.Model]:
    """The real network, its channels of very unlike range, before and after."""
    keras.utils.set_random_seed(0)
    built = model.build("mobilenet_v3_small", 8, None, size=64)
    rng = np.random.default_rng(1)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape
            scale, shift = 10 ** rng.uniform(-0.5, 0.7, count), rng.uniform(-1, 1, count)
            layer.set_weights([scale, shift, rng.uniform(-1, 1, count), rng.uniform(0.1, 1, count)])
    folded = fold(built)
    return folded, spread(folded, CROPS)


def held(network: keras.Model, name: str) -> np.ndarray:
    values = keras.Model(network.input, network.get_layer(name).output).predict(
        CROPS.astype(np.float32), verbose=0
    )
    return np.asarray(values).reshape(-1, values.shape[-1])


def test_the_network_answers_as_before(networks: tuple[keras.Model, keras.Model]) -> None:
    before, after = (np.asarray(n.predict(CROPS.astype(np.float32), verbose=0)) for n in networks)
    assert after == pytest.approx(before, rel=1e-3, abs=1e-5)
    assert before.std(axis=0).max() > 1e-3


@pytest.mark.parametrize("name", [GATED, BARE])
def test_channels_come_to_use_the_range(networks: tuple[keras.Model, keras.Model], name: str) -> None:
    before, after = (v.std(axis=0) / np.ptp(v) for v in (held(n, name) for n in networks))
    heard = before > 0
    assert heard.mean() > 0.3
    assert after[heard].min() > 2 * before[heard].min()
    assert np.median(after[heard]) > 1.5 * np.median(before[heard])


def test_what_nothing_bends_is_moved_to_the_middle(networks: tuple[keras.Model, keras.Model]) -> None:
    off, centre = (np.abs(v.max(axis=0) + v.min(axis=0)) for v in (held(n, BARE) for n in networks))
    width = np.ptp(held(networks[1], BARE), axis=0)
    assert (centre < 0.3 * width).all()
    assert off.max() > np.ptp(held(networks[0], BARE), axis=0).min()


def test_what_is_added_to_another_tensor_stays(networks: tuple[keras.Model, keras.Model]) -> None:
    before, after = (held(n, ADDED) for n in networks)
    assert after == pytest.approx(before, rel=1e-3, abs=1e-3)


def test_silence_and_what_nobody_reads_are_left_alone() -> None:
    image = keras.Input((8, 8, 3))
    silent, read = (keras.layers.BatchNormalization(name=n) for n in ("silent", "read"))
    x = keras.layers.Conv2D(4, 1, use_bias=False)(keras.layers.ReLU()(silent(image)))
    built = keras.Model(image, keras.layers.GlobalAveragePooling2D()(read(x)))
    silent.set_weights([np.zeros(3), np.full(3, -1.0), np.zeros(3), np.ones(3)])
    answers = [
        np.asarray(m.predict(CROPS[:, :8, :8], verbose=0)) for m in (built, spread(built, CROPS[:, :8, :8]))
    ]
    assert np.isfinite(answers[1]).all()
    assert answers[1] == pytest.approx(answers[0])


def test_the_network_given_is_left_alone(networks: tuple[keras.Model, keras.Model]) -> None:
    weights = [w.copy() for w in networks[0].get_weights()]
    spread(networks[0], CROPS[:4])
    assert all(np.array_equal(a, b) for a, b in zip(weights, networks[0].get_weights(), strict=True))
