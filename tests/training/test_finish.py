import keras
import numpy as np
import pytest

from edge.strangeness import read_familiar
from training import finish
from training.model import FEATURES, HEAD

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


def small_network() -> keras.Model:
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name=FEATURES)(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(image, keras.layers.Dense(2, activation="softmax", name=HEAD)(pooled))


def test_the_temperature_that_was_put_in_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (shares.cumsum(axis=1) > rng.random((len(shares), 1))).argmax(axis=1)
    sharper = np.exp(2.5 * logits) / np.exp(2.5 * logits).sum(axis=1, keepdims=True)
    assert finish.temperature(shares, truth) == pytest.approx(1, rel=0.05)
    assert finish.temperature(sharper, truth) == pytest.approx(2.5, rel=0.05)


def test_the_temperature_goes_into_the_head() -> None:
    network = small_network()
    image = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
    before = np.log(network.predict(image, verbose=0))
    finish.set_temperature(network, 2.0)
    after = np.log(network.predict(image, verbose=0))
    assert after[:, 0] - after[:, 1] == pytest.approx((before[:, 0] - before[:, 1]) / 2, abs=1e-5)


def test_an_amount_is_added_to_the_scores() -> None:
    network = small_network()
    image = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
    before = np.log(network.predict(image, verbose=0))
    finish.add_to_scores(network, np.array([0.0, 1.5]))
    after = np.log(network.predict(image, verbose=0))
    assert after[:, 1] - after[:, 0] == pytest.approx(before[:, 1] - before[:, 0] + 1.5, abs=1e-5)


def test_cells_of_a_class_lie_round_its_mean_with_variance_one() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 2000)
    features = rng.normal(0, [0.1, 3, 0.5], (4000, 3)) + np.array([[0, 0, 0], [1, 5, -2]])[truth]
    network, familiar = finish.add_embedding(small_network(), (features, truth), features[::10])
    embedding = features @ network.get_layer(finish.EMBEDDING).get_weights()[0]
    for label in (0, 1):
        assert embedding[truth == label].std(axis=0) == pytest.approx([1, 1, 1], abs=0.05)
    assert familiar.means.shape == (2, 3)
    answers = network.predict(np.zeros((2, 8, 8, 3), np.float32), verbose=0)
    assert [a.shape for a in answers] == [(2, 2), (2, 3)]


def test_a_network_that_puts_all_cells_in_one_place_is_finished_too() -> None:
    _, familiar = finish.add_embedding(
        small_network(), (np.ones((10, 3)), np.repeat([0, 1], 5)), np.ones((4, 3))
    )
    assert read_familiar(familiar.facts()).limit > 0


def test_one_validation_cell_in_a_hundred_is_strange_and_a_far_one_is() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1], 1000)
    features = rng.normal(0, 1, (2000, 3)) + 8 * truth[:, None]
    network, familiar = finish.add_embedding(small_network(), (features, truth), features)
    kernel, bias = network.get_layer(finish.EMBEDDING).get_weights()
    strangeness = read_familiar(familiar.facts()).strangeness((features @ kernel + bias).astype(np.float32))
    assert (strangeness > 1).mean() == pytest.approx(0.01, abs=0.002)
    between = np.full((1, 3), 4.0) @ kernel + bias
    assert familiar.strangeness(between.astype(np.float32))[0] > 1.2
