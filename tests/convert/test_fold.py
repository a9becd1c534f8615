from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from convert.fold import centred, fold
from edge.errors import UserError
from training import model

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

CROPS = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """The real network for small crops, its statistics and biases as they could be after a training."""
    built = model.build("mobilenet_v3_small", 8, None, size=64)
    rng = np.random.default_rng(1)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = [rng.uniform(*span, layer.gamma.shape) for span in ((1, 3), (-1, 1), (-1, 1), (0.1, 1))]
            layer.set_weights(weights)
        elif layer.name.endswith("squeeze_excite_conv_1"):
            kernel, bias = layer.get_weights()
            layer.set_weights([20 * kernel, rng.uniform(-2, 2, bias.shape)])
    return built


def inner(network: keras.Model, crops: np.ndarray, *names: str) -> list[np.ndarray]:
    probe = keras.Model(network.input, [network.get_layer(name).output for name in names])
    return [np.asarray(values) for values in probe.predict(crops.astype(np.float32), verbose=0)]


def test_the_folded_network_holds_the_same(network: keras.Model) -> None:
    names = "conv_bn", "expanded_conv_project_bn", "expanded_conv_10_project_bn"
    exact = inner(network, CROPS, *names)
    found = inner(fold(network), centred(CROPS), *names)
    # The first convolution reaches beyond the right and the lower border.
    assert found[0][:, :-1, :-1] == pytest.approx(exact[0][:, :-1, :-1], abs=1e-4)
    for a, b in zip(found, exact, strict=True):
        assert np.abs(a - b).mean() < 0.002 * b.std()


def test_the_folded_network_answers_the_same(network: keras.Model) -> None:
    exact = np.asarray(network.predict(CROPS.astype(np.float32), verbose=0))
    found = np.asarray(fold(network).predict(centred(CROPS).astype(np.float32), verbose=0))
    assert found == pytest.approx(exact, abs=0.01)
    assert exact.std(axis=0).max() > 0.05


def test_what_was_folded_is_gone(network: keras.Model) -> None:
    folded = fold(network)
    assert not [op.name for op in folded.operations if not isinstance(op, keras.layers.Layer)]
    assert "Rescaling" not in {type(layer).__name__ for layer in folded.layers}
    assert len(folded.weights) == len(network.weights)


def test_the_network_itself_stays_as_it_was(network: keras.Model) -> None:
    before = [w.copy() for w in network.get_weights()]
    fold(network)
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), before, strict=True))


def test_pictures_are_centred_without_loss() -> None:
    every = np.arange(256, dtype=np.uint8)
    assert centred(every).tolist() == list(range(-128, 128))


Build = Callable[[Any], Any]


def built(begin: Build, end: Build) -> keras.Model:
    image = keras.Input((24, 24, 3))
    x = keras.layers.BatchNormalization()(begin(image))
    return keras.Model(image, end(keras.layers.Conv2D(4, 1, activation="relu")(x)))


def usual(image: Any) -> Any:
    return keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 127.5, -1)(image))


@pytest.mark.parametrize(
    "begin",
    [
        keras.layers.Conv2D(4, 3),
        lambda image: keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image)),
        lambda image: keras.layers.Conv2D(4, 3, activation="relu")(
            keras.layers.Rescaling(1 / 127.5, -1)(image)
        ),
    ],
    ids=["not rescaled", "black is 0", "bent"],
)
def test_a_network_that_begins_otherwise_is_told(begin: Build) -> None:
    with pytest.raises(UserError, match="does not begin as a MobileNet-V3"):
        fold(built(begin, keras.layers.ReLU()))


def gated(x: Any, gate: Any) -> Any:
    return keras.layers.Conv2D(4, 1)(keras.layers.Multiply()([x, gate]))


def read_twice(x: Any) -> Any:
    before = keras.layers.Conv2D(4, 1)(x)
    return keras.layers.Add()([gated(x, keras.layers.ReLU(6.0)(before + 3.0) * (1 / 6)), before])


@pytest.mark.parametrize(
    "end",
    [
        lambda x: keras.layers.Conv2D(4, 1)(keras.layers.ReLU()(x + 3.0)),
        lambda x: gated(x, keras.layers.ReLU(6.0)(3.0 + keras.layers.Conv2D(4, 1)(x)) * (1 / 6)),
        lambda x: gated(x, keras.layers.ReLU(6.0)(keras.layers.Conv2D(4, 1)(x) + x) * (1 / 6)),
        lambda x: gated(x, keras.layers.ReLU(6.0)(keras.layers.Conv2D(4, 1, use_bias=False)(x) + 3.0) * 0.5),
        read_twice,
    ],
    ids=["no gate", "another order", "no number", "no bias", "read twice"],
)
def test_gates_of_another_kind_are_told(end: Build) -> None:
    with pytest.raises(UserError, match="gates"):
        fold(built(usual, end))
