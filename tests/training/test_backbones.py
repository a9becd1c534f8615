import warnings

import keras
import numpy as np
import pytest

from edge.errors import UserError
from training.backbones import BACKBONES, build_backbone, size_of

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


def test_the_forty_networks_of_the_study_are_there() -> None:
    assert len(BACKBONES) == 40
    assert all(hasattr(keras.applications, b.constructor) for b in BACKBONES.values())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v2", "vgg16", "densenet121"])
def test_a_network_takes_colours_from_0_to_255_and_gives_maps(name: str) -> None:
    network = build_backbone(name, None)
    size = size_of(name)
    assert network.input_shape == (None, size, size, 3)
    maps = network.predict(np.full((1, size, size, 3), 128, np.float32), verbose=0)
    assert maps.ndim == 4
    assert np.isfinite(maps).all()


@pytest.mark.parametrize(
    ("name", "module"), [("mobilenet_v2", "mobilenet_v2"), ("vgg16", "vgg16"), ("densenet121", "densenet")]
)
def test_the_first_layers_do_what_keras_documents(name: str, module: str) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    network = build_backbone(name, None)
    first = next(layer for layer in network.layers if layer.weights)
    prepared = keras.Model(network.input, first.input).predict(image, verbose=0)
    wanted = getattr(keras.applications, module).preprocess_input(image.copy())
    margin = (prepared.shape[1] - 224) // 2  # some networks pad before they convolve
    inner = prepared[:, margin : margin + 224, margin : margin + 224]
    assert inner == pytest.approx(wanted, abs=2e-3)


def test_an_unknown_name_and_unfit_weights_are_told(tmp_path) -> None:
    with pytest.raises(UserError, match="resnet51"):
        build_backbone("resnet51", None)
    with pytest.raises(UserError, match="mobilenet_v3_small: the weights"):
        build_backbone("mobilenet_v3_small", str(tmp_path / "none.weights.h5"))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet", "mobilenet_v2"])
def test_another_size_than_that_of_the_weights_is_no_warning(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(UserError, match="no network"):
            build_backbone(name, "imagenet", 144)
    assert not [w for w in told if "input_shape" in str(w.message)]
