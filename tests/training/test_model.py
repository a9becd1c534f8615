import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

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
    names = [layer.name for layer in network.layers]
    assert isinstance(network.layers[names.index("conv_bn") + 1], keras.layers.ReLU)
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


FACTS = {"epochs": 3, "temperature": 1.0, "familiar": {"means": [[0.0] * 4], "limit": 1.0}}


def with_embedding(network: keras.Model) -> keras.Model:
    embedding = keras.layers.Dense(4)(network.get_layer(model.FEATURES).output)
    return keras.Model(network.input, [network.output, embedding])


def test_a_saved_model_is_read_with_its_card(network: keras.Model, tmp_path: Path) -> None:
    classes = CLASSES
    trained = model.Trained(with_embedding(network), classes, Framing.CELL, FACTS)
    model.save(trained, tmp_path / "model.keras")
    again = model.load(tmp_path / "model.keras")
    assert (again.classes, again.framing, again.size, again.facts["epochs"]) == (
        classes,
        Framing.CELL,
        224,
        3,
    )


def edit_card(file: Path, **changes: object) -> None:
    card = file.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def without_epochs(file: Path) -> None:
    card = file.with_suffix(".json")
    card.write_text(json.dumps({k: v for k, v in json.loads(card.read_text()).items() if k != "epochs"}))


def without_config(file: Path) -> None:
    """A zip that is no model."""
    with ZipFile(file, "w") as content:
        content.writestr("other.txt", "x")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "no such file"),
        (lambda file: file.write_bytes(b"PK"), "not a Keras model"),
        (lambda file: file.with_suffix(".json").unlink(), "not the card"),
        (lambda file: edit_card(file, classes=[]), "8 outputs, its card names 0"),
        (lambda file: file.with_suffix(".json").write_text('{"classes": [], "framing": "cell"}'), "familiar"),
        (lambda file: edit_card(file, familiar={}), r"not the card of a trained model \(KeyError\('means'\)"),
        (lambda file: edit_card(file, familiar={"means": [[0.0]], "limit": 1}), "4, its card has means of 1"),
        (without_epochs, r"not the card of a trained model \(epochs missing"),
        (without_config, "not a Keras model"),
    ],
)
def test_a_damaged_model_is_told(
    network: keras.Model, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / "model.keras"
    model.save(model.Trained(with_embedding(network), CLASSES, Framing.CELL, FACTS), file)
    spoil(file)
    with pytest.raises(UserError, match=message):
        model.load(file)


@pytest.mark.parametrize(("owner", "step"), [(Path, "replace"), (model, "write_json")])
def test_a_kill_leaves_no_card_beside_an_older_network(
    network: keras.Model, tmp_path: Path, owner: object, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    file, trained = tmp_path / "model.keras", model.Trained(network, CLASSES, Framing.CELL, FACTS)
    model.save(trained, file)
    assert model.epochs_of(file) == 3
    monkeypatch.setattr(owner, step, die)
    with pytest.raises(KeyboardInterrupt):
        model.save(trained, file)
    assert model.epochs_of(file) == 0


def test_another_kind_of_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A model")
    with pytest.raises(UserError, match=r"README\.md: not a \.keras file; --model names one"):
        model.load(tmp_path / "README.md")


def test_a_model_without_an_embedding_is_told(network: keras.Model, tmp_path: Path) -> None:
    model.save(model.Trained(network, CLASSES, Framing.CELL, FACTS), tmp_path / "model.keras")
    with pytest.raises(UserError, match="1 outputs; a trained model has"):
        model.load(tmp_path / "model.keras")
