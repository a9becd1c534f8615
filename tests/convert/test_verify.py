import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from convert import verify
from convert.graph import Graph, delegation
from edge.errors import UserError
from tests.convert.conftest import write
from training import data, division, model

pytestmark = pytest.mark.filterwarnings("default")  # Keras' and TensorFlow's own


def test_everything_is_measured(
    converted: tuple[model.Trained, Path], made_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_ROUNDS", 3)
    samples = data.select(data.load(made_data), "test")
    found = verify.verify(*converted, samples)
    assert found["cells"] == 16
    assert found["gaps"][0]["change"] >= found["gaps"][-1]["change"] >= 0
    assert found["floating"] == []
    assert found["delegate"]["pieces"] >= 1  # the scales of random weights are not all the delegate's
    assert found["operations"]["CONV_2D"] > 30
    assert set(found["latency_ms"]) == {"float", "int8", "stock INT8"}
    assert all(0 <= row["error"] <= 1 for row in found["layers"])
    assert len(found["layers"]) > 80
    told = "\n".join(verify.lines(found))
    assert "float: none" in told


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda x, noise: 3 * x - 2, 0.0),
        (lambda x, noise: x * np.array([0.1, 5]), 0.0),
        (lambda x, noise: -x, 1.0),
        (lambda x, noise: np.ones_like(x), 1.0),
        (lambda x, noise: x + x.std() * noise, 0.5),
    ],
    ids=["stretched", "each its own", "turned round", "constant", "half noise"],
)
def test_what_no_stretch_explains_is_an_error(
    spoil: Callable[[np.ndarray, np.ndarray], np.ndarray], error: float
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, (4000, 2))
    y = spoil(x, rng.normal(0, 1, x.shape))
    means = np.stack([x, y, x * x, y * y, x * y]).mean(axis=1)
    assert verify._unexplained(means) == pytest.approx(error, abs=0.03)


def test_a_file_of_another_model_is_told(
    converted: tuple[model.Trained, Path], made_data: Path, tmp_path: Path
) -> None:
    trained, file = converted
    other = Path(shutil.copy(file, tmp_path))
    write(other, file.read_bytes(), json.loads(file.with_suffix(".json").read_text()) | {"size": 96})
    with pytest.raises(UserError, match="it is not made of it"):
        verify.verify(trained, other, data.load(made_data))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, None),
        ({"floating": ["CONV_2D"]}, "not a full-integer file: CONV_2D"),
        ({"sets": {"all classes": {"loss": 0.0021}}}, "0.21 points are lost, --max-loss allows 0.2"),
    ],
)
def test_a_file_that_loses_too_much_fails(
    changed: dict[str, object],
    message: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    result = {"floating": [], "sets": {"all classes": {"loss": 0.0019}}} | changed
    monkeypatch.setattr(verify, "verify", lambda *_: result)
    monkeypatch.setattr(verify, "lines", lambda _: [])
    monkeypatch.setattr(verify.data, "load", lambda _: [])
    monkeypatch.setattr(verify.data, "select", lambda *_: [])
    monkeypatch.setattr(verify.model, "load", lambda _: None)
    monkeypatch.setattr(verify, "_check_parent", lambda *_: None)
    code = verify.main(["--json", str(tmp_path / "found.json")])
    assert code == (0 if message is None else 1)
    assert (message or "") in capsys.readouterr().err
    assert json.loads((tmp_path / "found.json").read_text()) == result


def test_a_file_is_measured_against_its_own_parent_alone(
    converted: tuple[model.Trained, Path], made_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The sister has the same classes and the same size."""
    trained, file = converted
    model.save(trained, tmp_path / "sister.keras")
    facts = json.loads(file.with_suffix(".json").read_text())
    write(tmp_path / "made.tflite", file.read_bytes(), facts | {"made_of": "0" * 64})
    command = ["--model", str(tmp_path / "sister.keras"), "--file", str(tmp_path / "made.tflite")]
    assert verify.main([*command, "--data", str(made_data)]) == 1
    assert "give --model the .keras file that it was made of" in capsys.readouterr().err


def test_a_part_of_the_models_run_is_verified(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [replace(s, split="") for s in data.load(made_data)]
    parts = [replace(s, split="train" if i % 2 else "test") for i, s in enumerate(samples)]
    division.write(tmp_path / "split.csv", parts)
    seen: list[data.Sample] = []

    def spy(model: object, file: Path, samples: list[data.Sample]) -> None:
        seen.extend(samples)
        raise UserError("enough")

    monkeypatch.setattr(verify.data, "load", lambda _: samples)
    monkeypatch.setattr(verify.model, "load", lambda _: None)
    monkeypatch.setattr(verify, "_check_parent", lambda *_: None)
    monkeypatch.setattr(verify, "verify", spy)
    assert verify.main(["--model", str(tmp_path / "model.keras")]) == 1
    assert seen == parts[::2]


def test_a_float_file_is_seen_as_such(converted: tuple[model.Trained, Path]) -> None:
    content = verify.tflite.floating(converted[0].network)
    assert all(op.floating for op in Graph(content).operations)
    assert delegation(content).outside == {}


def test_metadata_leaves_the_answers_and_names_the_classes(converted: tuple[model.Trained, Path]) -> None:
    import zipfile

    from tensorflow.lite.tools import flatbuffer_utils

    _, file = converted
    with zipfile.ZipFile(file) as archive:
        assert archive.read("labels.txt").decode().split() == [c.name for c in data.CLASSES]
    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(file.read_bytes()))
    entry = next(m for m in parsed.metadata if m.name == b"TFLITE_METADATA")
    buffer = bytes(parsed.buffers[entry.buffer].data)
    assert buffer[4:8] == b"M001"
    schema = pytest.importorskip("tensorflow_lite_support.metadata.metadata_schema_py_generated")
    said = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAsModelMetadata(buffer, 0))
    assert said.license == b"Apache-2.0"
    given = said.subgraphMetadata[0].inputTensorMetadata[0]
    # A tool that normalises as told, then rounds by the input's scale, gives the file the bytes as they are.
    (mean,), (std,) = given.processUnits[0].options.mean, given.processUnits[0].options.std
    scale, zero = Interpreter(model_path=str(file)).get_input_details()[0]["quantization"]
    every = np.arange(256)
    assert (np.round((every - mean) / std / scale) + zero == every).all()
    outputs = said.subgraphMetadata[0].outputTensorMetadata
    assert {o.name for o in outputs} == {b"probability", b"embedding", b"heat", b"scores"}
