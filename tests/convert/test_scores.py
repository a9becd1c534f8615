import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.tools import flatbuffer_utils

from convert.scores import with_scores
from edge.classify import DEFAULT_MODEL, SCORES, Classifier, softmax
from edge.errors import UserError

CROPS = np.random.default_rng(1).integers(0, 256, (6, 192, 192, 3), np.uint8)


def without_scores() -> bytes:
    """Return the shipped file as it would be had nobody asked for its scores."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(DEFAULT_MODEL.read_bytes()))
    graph = model.subgraphs[0]
    place = next(int(i) for i in graph.outputs if graph.tensors[i].name == SCORES.encode())
    graph.operators = [op for op in graph.operators if place not in op.outputs]
    graph.outputs = np.array([i for i in graph.outputs if i != place], np.int32)
    for signature in model.signatureDefs:
        signature.outputs = [named for named in signature.outputs if named.tensorIndex != place]
    graph.tensors.pop()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def said(content: bytes) -> list[dict[str, np.ndarray]]:
    """Return every output for each crop, in real numbers, by the file's own names."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    found = []
    for crop in CROPS:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], crop[None])
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        found.append(
            {
                o["name"]: (interpreter.get_tensor(o["index"])[0].astype(np.float32) - o["quantization"][1])
                * np.float32(o["quantization"][0])
                for o in outputs
            }
        )
    return found


def test_the_scores_are_what_the_probabilities_are_made_of() -> None:
    plain = said(without_scores())
    scored = said(with_scores(without_scores()))
    for before, after in zip(plain, scored, strict=True):
        scores = after.pop(SCORES)
        assert all(np.array_equal(before[name], values) for name, values in after.items())
        (probabilities,) = (values for values in before.values() if values.shape == scores.shape)
        assert softmax(scores) == pytest.approx(probabilities, abs=1 / 200)


def test_the_instrument_tells_small_probabilities_apart() -> None:
    shares = Classifier().look(list(CROPS)).probabilities
    assert shares.sum(axis=1) == pytest.approx(1)
    assert (shares > 0).all()
    assert (shares < 1 / 512).any()


def test_a_file_without_scores_is_refused(tmp_path: Path) -> None:
    content = without_scores()
    file = tmp_path / "wbc.tflite"
    file.write_bytes(content)
    facts = json.loads(DEFAULT_MODEL.with_suffix(".json").read_text())
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    file.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="3 outputs, the card says 4; convert the model again"):
        Classifier(file)
