from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from edge.errors import UserError
from training import model
from training.data import CLASSES
from training.framing import Framing

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return model.build("mobilenet_v3_small", 8, None)


def test_it_is_mobilenet_v3_small_with_a_head(network: keras.Model) -> None:
    stock = keras.applications.MobileNetV3Small(input_shape=(224, 224, 3), include_top=False, weights=None)
    head = 576 * 8 + 8
    assert network.count_params() == stock.count_params() + head
    assert network.input_shape == (None, 224, 224, 3)
    answer = network.predict(np.zeros((2, 224, 224, 3)), verbose=0)
    assert answer.shape == (2, 8)
    assert answer.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_no_hard_swish_is_left_and_batch_norm_is_frozen(network: keras.Model) -> None:
    activations = [layer.activation for layer in network.layers if isinstance(layer, keras.layers.Activation)]
    assert keras.activations.silu in activations
    assert keras.activations.hard_silu not in activations
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    assert not any(norm.trainable for norm in norms)


def test_no_squeeze_channel_is_dead() -> None:
    seeded = model.build("mobilenet_v3_small", 5, None)
    for layer in seeded.layers:
        if layer.name.endswith("squeeze_excite_conv"):
            assert np.abs(layer.get_weights()[0]).max(axis=(0, 1, 2)).min() >= 1e-3


def test_a_saved_model_is_read_with_its_card(network: keras.Model, tmp_path: Path) -> None:
    classes = CLASSES
    model.save(model.Trained(network, classes, Framing.CELL, {"epochs": 3}), tmp_path / "model.keras")
    again = model.load(tmp_path / "model.keras")
    assert (again.classes, again.framing, again.size, again.facts["epochs"]) == (
        classes,
        Framing.CELL,
        224,
        3,
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "no such file"),
        (lambda file: file.write_bytes(b"PK"), "not a Keras model"),
        (lambda file: file.with_suffix(".json").unlink(), "not the card"),
        (
            lambda file: file.with_suffix(".json").write_text('{"classes": [], "framing": "cell"}'),
            "8 outputs",
        ),
    ],
)
def test_a_damaged_model_is_told(
    network: keras.Model, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / "model.keras"
    model.save(model.Trained(network, CLASSES, Framing.CELL, {}), file)
    spoil(file)
    with pytest.raises(UserError, match=message):
        model.load(file)
