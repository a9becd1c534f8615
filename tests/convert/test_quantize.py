import json
from collections import Counter
from dataclasses import asdict
from itertools import repeat
from pathlib import Path

import keras
import numpy as np
import pytest

from convert import quantize
from edge.errors import UserError
from training import data, model
from training.train import Recipe

pytestmark = pytest.mark.filterwarnings("default")  # Keras' and TensorFlow's own


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return model.build(8, weights=None)


CROPS = np.random.default_rng(0).integers(0, 256, (60, 224, 224, 3), np.uint8)


def test_the_file_is_integer_through_and_through(network: keras.Model) -> None:
    from ai_edge_litert.interpreter import Interpreter

    content = quantize.quantize(network, CROPS, repeat(CROPS[:4]), steps=1, learning_rate=1e-6)
    assert len(content) < 1_300_000
    interpreter = Interpreter(model_content=content)
    for details in (interpreter.get_input_details()[0], interpreter.get_output_details()[0]):
        assert details["dtype"] is np.uint8
    kinds = Counter(t["dtype"] for t in interpreter.get_tensor_details())
    assert kinds[np.float32] == 0
    kernel = next(t for t in interpreter.get_tensor_details() if tuple(t["shape"]) == (16, 3, 3, 3))
    assert kernel["quantization_parameters"]["scales"].shape == (16,)


def test_too_few_calibration_images_are_an_error(network: keras.Model) -> None:
    with pytest.raises(UserError, match="10 calibration images are too few"):
        quantize.quantize(network, CROPS[:10], repeat(CROPS), steps=0, learning_rate=0)


def test_another_input_size_is_an_error(network: keras.Model) -> None:
    with pytest.raises(UserError, match=r"\(224, 224, 3\), the crops are \(96, 96, 3\)"):
        quantize.quantize(network, CROPS[:, :96, :96], repeat(CROPS), steps=0, learning_rate=0)


def test_calibration_covers_every_class(made_data: Path) -> None:
    chosen = quantize.calibration(data.select(data.read_table(made_data), "train"), 3, seed=1)
    assert set(Counter(s.name for s in chosen).values()) == {3}
    assert len({s.name for s in chosen}) == 8


def test_a_file_that_the_runtime_cannot_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not run the converted file"):
        quantize.loads(tmp_path / "nowhere.tflite")


@pytest.mark.parametrize("kind", ["missing", "not a model", "without its recipe"])
def test_what_cannot_be_converted_leaves_no_file(
    kind: str, network: keras.Model, made_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    trained = tmp_path / "run" / "model.keras"
    trained.parent.mkdir()
    if kind == "not a model":
        trained.write_text("Dear colleague")
        (trained.parent / "recipe.json").write_text(json.dumps(asdict(Recipe())))
    elif kind == "without its recipe":
        network.save(trained)
    output = tmp_path / "out" / "wbc.tflite"
    assert quantize.main(["--model", str(trained), "--data", str(made_data), "--output", str(output)]) == 1
    assert "error:" in capsys.readouterr().err
    assert not output.parent.exists()
