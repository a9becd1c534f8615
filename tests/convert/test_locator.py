from pathlib import Path

import keras
import numpy as np
import pytest

from convert.graph import Graph
from convert.locator import main, quantize
from edge.errors import UserError
from training.locator import build

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

SCENES = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build(64)


def test_the_file_computes_in_integers_alone(network: keras.Model) -> None:
    graph = Graph(quantize(network, SCENES))
    assert not any(op.floating for op in graph.operations)
    graph.see(SCENES[0])


@pytest.mark.parametrize(
    ("scenes", "message"), [(SCENES[:10], "too few"), (SCENES[:, :32, :32], "the scenes are")]
)
def test_unfit_scenes_are_an_error(network: keras.Model, scenes: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        quantize(network, scenes)


def test_a_model_that_is_not_there_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out" / "locator.tflite"
    assert main(["--model", str(tmp_path / "none.keras"), "--output", str(output)]) == 1
    assert "train one with training.locator" in capsys.readouterr().err
    assert not output.parent.exists()


def test_the_name_of_the_output_is_looked_at_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(tmp_path / "none.keras"), "--output", str(tmp_path / "locator")]) == 1
    assert "locator: --output names a .tflite file" in capsys.readouterr().err


def test_a_file_of_another_kind_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("# A model")
    assert main(["--model", str(tmp_path / "README.md"), "--output", str(tmp_path / "locator.tflite")]) == 1
    assert "README.md: no .keras file is there" in capsys.readouterr().err


def test_a_file_that_only_ends_as_a_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "junk.keras").write_bytes(b"Dear colleague")
    assert main(["--model", str(tmp_path / "junk.keras"), "--output", str(tmp_path / "l.tflite")]) == 1
    assert "junk.keras: not a locator's .keras file" in capsys.readouterr().err


def test_too_few_scenes_are_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "locator.tflite")]
    assert main(["--model", str(tmp_path / "none.keras"), *output, "--calibrate", "0"]) == 1
    assert "--calibrate 0: must be at least 50" in capsys.readouterr().err
