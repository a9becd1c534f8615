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
        assert np.abs(a - b).mean() < 0.01 * b.std()


def test_nothing_is_stored_but_what_layers_yield(network: keras.Model) -> None:
    folded = fold(network)
    assert not [op.name for op in folded.operations if not isinstance(op, keras.layers.Layer)]
    assert "Rescaling" not in {type(layer).__name__ for layer in folded.layers}
    before = model.build("mobilenet_v3_small", 8, None, size=64)
    assert len(folded.weights) == len(before.weights)


def test_the_network_itself_stays_as_it_was(network: keras.Model) -> None:
    before = [w.copy() for w in network.get_weights()]
    fold(network)
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), before, strict=True))


def test_pictures_are_centred_without_loss() -> None:
    every = np.arange(256, dtype=np.uint8)
    assert centred(every).tolist() == list(range(-128, 128))


def test_a_network_that_begins_otherwise_is_told() -> None:
    image = keras.Input((24, 24, 3))
    plain = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(UserError, match="does not begin as a MobileNet-V3"):
        fold(plain)


def test_gates_of_another_kind_are_told() -> None:
    image = keras.Input((24, 24, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
    with pytest.raises(UserError, match="gates"):
        fold(keras.Model(image, keras.layers.Conv2D(4, 1)(keras.layers.ReLU()(x + 3.0))))
