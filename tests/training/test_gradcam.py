from pathlib import Path

import keras
import numpy as np
import pytest

from edge.errors import UserError
from training import gradcam

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

SIZE = 8


def known_network(activation: str = "softmax", *, thinned: bool = False) -> keras.Model:
    """Two maps that are the red and the green channel; class 0 looks at red, class 1 at green."""
    image = keras.Input((SIZE, SIZE, 3))
    maps = keras.layers.Conv2D(2, 1, use_bias=False, name="maps")(image)
    if thinned:
        maps = keras.layers.MaxPooling2D(2)(maps)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    head = keras.layers.Dense(2, activation=activation, name="head")(pooled)
    network = keras.Model(image, head)
    network.get_layer("maps").set_weights([np.array([[[[1, 0], [0, 1], [0, 0]]]], np.float32)])
    network.get_layer("head").set_weights([np.array([[3, -1], [-1, 2]], np.float32), np.zeros(2)])
    return network


def two_spots() -> np.ndarray:
    """One crop: red at the upper left, green at the lower right, half as bright in a corner of each."""
    crop = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    crop[0, :3, :3, 0] = 200
    crop[0, 0, 0, 0] = 100
    crop[0, 5:, 5:, 1] = 120
    return crop


@pytest.mark.parametrize("activation", ["softmax", "linear"])
def test_a_linear_head_has_the_heat_of_its_weights(activation: str) -> None:
    crop = two_spots()
    heats = gradcam.heat_maps(known_network(activation), np.concatenate([crop, crop]), [0, 1])
    red, green = crop[0, ..., 0].astype(float), crop[0, ..., 1].astype(float)
    for heat, raw in zip(heats, [3 * red - green, 2 * green - red], strict=True):
        assert heat == pytest.approx(np.maximum(raw, 0) / raw.max(), abs=1e-5)
    assert heats[0, 1, 1] == 1
    assert heats[0, 0, 0] == pytest.approx(0.5)
    assert heats[0, 6, 6] == 0


def test_a_pooling_that_only_thins_the_maps_is_passed_over() -> None:
    heat = gradcam.heat_maps(known_network(thinned=True), two_spots(), [0])[0]
    assert heat[1, 1] > 0.9
    assert heat[0, 0] == pytest.approx(0.5, abs=0.01)  # half of the same 2 x 2 square: not thinned


def test_a_softmax_layer_of_its_own_is_stripped() -> None:
    known = known_network("linear")
    apart = keras.Model(known.input, keras.layers.Activation("softmax")(known.output))
    crop = two_spots()
    assert gradcam.heat_maps(apart, crop, [1]) == pytest.approx(gradcam.heat_maps(known, crop, [1]))


def test_nothing_for_the_class_is_no_heat() -> None:
    crop = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    crop[..., 1] = 50  # green speaks against class 0
    assert not gradcam.heat_maps(known_network(), crop, [0]).any()


@pytest.mark.filterwarnings("error:The structure of `inputs`")
def test_a_network_whose_input_is_a_list_of_one() -> None:
    known = known_network()
    listed = keras.Model([known.input], known.output)
    crop = two_spots()
    assert gradcam.heat_maps(listed, crop, [1]) == pytest.approx(gradcam.heat_maps(known, crop, [1]))


def test_batches_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    classes = [0, 1, 1, 0, 1]
    network = known_network()
    together = gradcam.heat_maps(network, crops, classes)
    assert gradcam.heat_maps(network, crops, classes, batch=2) == pytest.approx(together)
    alone = [gradcam.heat_maps(network, crops[i : i + 1], classes[i : i + 1])[0] for i in range(5)]
    assert together == pytest.approx(np.stack(alone))


def stock_network(classes: int) -> keras.Model:
    """MobileNet-V3-Small with random weights, a head, and an embedding as second output."""
    backbone = keras.applications.MobileNetV3Small(input_shape=(96, 96, 3), include_top=False, weights=None)
    features = keras.layers.GlobalAveragePooling2D(name="features")(backbone.output)
    dropped = keras.layers.Dropout(0.5)(features)
    answer = keras.layers.Dense(classes, activation="softmax")(dropped)
    return keras.Model(backbone.input, [answer, keras.layers.Dense(3)(features)])


def test_a_real_network_is_explained_and_left_as_it_is(tmp_path: Path) -> None:
    network = stock_network(5)
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    before = network.predict(crops, verbose=0)[0]
    weights = [w.copy() for w in network.get_weights()]
    heats = gradcam.heat_maps(network, crops, [4, 0])
    assert heats.shape == (2, 96, 96)
    assert heats.dtype == np.float32
    assert heats.min() >= 0
    assert heats.max() <= 1
    assert heats.any()
    assert network.predict(crops, verbose=0)[0] == pytest.approx(before, abs=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(weights, network.get_weights(), strict=True))
    network.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.predict(crops, verbose=0)[0] == pytest.approx(before, abs=1e-6)
    assert gradcam.heat_maps(again, crops, [4, 0]) == pytest.approx(heats, abs=1e-4)


def test_a_network_without_maps_is_told() -> None:
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(UserError, match="no feature maps"):
        gradcam.heat_maps(flat, two_spots(), [0])


def test_a_class_for_each_crop() -> None:
    with pytest.raises(UserError, match="1 crops, but 2 classes"):
        gradcam.heat_maps(known_network(), two_spots(), [0, 1])


def test_the_overlay_keeps_the_crop_visible_and_grows_lighter_with_the_heat() -> None:
    crop = np.full((SIZE, SIZE, 3), 100, np.uint8)
    heat = np.zeros((SIZE, SIZE), np.float32)
    heat[2, 2] = 1
    drawn = gradcam.overlay(crop, heat)
    assert drawn.dtype == np.uint8
    assert drawn.shape == crop.shape
    assert drawn[2, 2].sum() > drawn[0, 0].sum() + 100
    assert np.array_equal(gradcam.overlay(crop, heat, strength=0), crop)
    assert drawn[2, 2, 0] > drawn[2, 2, 2]  # yellow: red, not blue (the order is RGB)
