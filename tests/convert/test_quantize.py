import json
from collections import Counter
from dataclasses import asdict
from itertools import count, repeat
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from convert import quantize
from edge.errors import UserError
from training import data, finish, model, sizes
from training.framing import Framing
from training.predict import open_model
from training.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("default")  # Keras' and TensorFlow's own


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """The real network with its embedding, for small crops."""
    plain = model.build("mobilenet_v3_small", 8, None, size=64)
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (800, 576)), np.repeat(np.arange(8), 100)
    return finish.add_embedding(plain, features, features[0])[0]


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """The operations of the real network, with ReLU first and swish then, in a few thousand weights."""
    keras.utils.set_random_seed(7)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(16, 3, strides=2, use_bias=False)(x)
    norm = keras.layers.BatchNormalization(trainable=False)
    x = keras.layers.ReLU()(norm(x))
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = keras.layers.Activation("silu")(keras.layers.BatchNormalization(trainable=False)(x))
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.ReLU(6.0)(keras.layers.Conv2D(16, 1)(gate) + 3.0) * (1 / 6)
    x = keras.layers.Conv2D(16, 1, use_bias=False)(keras.layers.Multiply()([x, gate]))
    x = keras.layers.BatchNormalization(trainable=False)(x)
    x = keras.layers.GlobalAveragePooling2D(name=model.FEATURES)(x)
    spread = keras.initializers.RandomNormal(0, 60)
    head = keras.layers.Dense(4, activation="softmax", kernel_initializer=spread, name=model.HEAD)
    built = keras.Model(image, head(keras.layers.Dropout(0.2)(x)))
    rng = np.random.default_rng(7)
    norm.set_weights([rng.uniform(*span, 16) for span in ((0.5, 2), (-1, 1), (-0.5, 0.5), (0.3, 3))])
    return built


CROPS = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)


def coloured_crops(count: int, seed: int) -> np.ndarray:
    """Crops of one colour each with a little noise: unlike pure noise, they differ in their answers."""
    rng = np.random.default_rng(seed)
    crops = rng.integers(20, 236, (count, 1, 1, 3)) + rng.integers(-20, 20, (count, 32, 32, 3))
    return crops.astype(np.uint8)


def open_file(content: bytes) -> Interpreter:
    # Without its delegate the interpreter shows the operations of the file itself.
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    return interpreter


def test_the_file_is_integer_through_and_through(converted: tuple[model.Trained, Path]) -> None:
    content = converted[1].read_bytes()
    assert len(content) < 1_300_000
    interpreter = open_file(content)
    outputs = interpreter.get_output_details()
    assert sorted(tuple(o["shape"]) for o in outputs) == [(1, 2, 2, 8), (1, 8), (1, 8), (1, 32)]
    for details in (interpreter.get_input_details()[0], *outputs):
        assert details["dtype"] is np.uint8
    kinds = Counter(t["dtype"] for t in interpreter.get_tensor_details())
    assert set(kinds) == {np.uint8, np.int8, np.int32}
    kernel = next(t for t in interpreter.get_tensor_details() if tuple(t["shape"]) == (16, 3, 3, 3))
    assert kernel["quantization_parameters"]["scales"].shape == (16,)
    # One way in, four ways out; elsewhere nothing is rounded twice.
    operations = Counter(op["op_name"] for op in interpreter._get_ops_details())
    assert operations["QUANTIZE"] == 5


def test_the_file_answers_as_the_float_model_does(small: keras.Model) -> None:
    lessons = (coloured_crops(8, seed) for seed in count())
    content = quantize.quantize(
        small, coloured_crops(60, 0), coloured_crops(60, 1), lessons, steps=3, learning_rate=1e-5
    )
    interpreter = open_file(content)
    given = interpreter.get_input_details()[0]
    answer = next(o for o in interpreter.get_output_details() if len(o["shape"]) == 2)
    scale, zero = answer["quantization"]
    crops = coloured_crops(40, 99)
    exact = small.predict(crops.astype(np.float32), verbose=0)
    assert exact.std(axis=0).max() > 0.1
    for crop, expected in zip(crops, exact, strict=True):
        interpreter.set_tensor(given["index"], crop[None])
        interpreter.invoke()
        found = (interpreter.get_tensor(answer["index"])[0].astype(np.float32) - zero) * scale
        assert np.abs(found - expected).max() < 0.1


def test_the_converter_does_not_chatter(small: keras.Model, capfd: pytest.CaptureFixture) -> None:
    quantize.quantize(
        small, coloured_crops(60, 0), coloured_crops(60, 1), repeat(CROPS), steps=0, learning_rate=0
    )
    printed = capfd.readouterr()
    assert printed.out.splitlines() == [
        "measuring ranges on 60 crops",
        "fitting the head on 60 crops",
        "converting",
    ]
    assert printed.err == ""


def test_too_few_calibration_images_are_an_error(network: keras.Model) -> None:
    with pytest.raises(UserError, match="10 calibration images are too few"):
        quantize.quantize(network, CROPS[:10], CROPS, repeat(CROPS), steps=0, learning_rate=0)


def test_another_input_size_is_an_error(network: keras.Model) -> None:
    with pytest.raises(UserError, match=r"\(64, 64, 3\), the crops are \(48, 48, 3\)"):
        quantize.quantize(network, CROPS[:, :48, :48], CROPS, repeat(CROPS), steps=0, learning_rate=0)


def test_calibration_covers_every_class(made_data: Path) -> None:
    chosen = quantize.calibration(data.select(data.load(made_data), "train"), 3, seed=1)
    assert set(Counter(s.name for s in chosen).values()) == {3}
    assert len({s.name for s in chosen}) == 8


@pytest.mark.parametrize(
    "case",
    [
        ("missing", "no such file"),
        ("not a model", "not the card of a trained model"),
        ("without its recipe", "not a recipe"),
        ("strange recipe", "not a recipe"),
        ("sees whole images", "the instrument sees cells"),
    ],
)
def test_what_cannot_be_converted_leaves_no_file(
    case: tuple[str, str],
    network: keras.Model,
    made_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    kind, message = case
    trained = tmp_path / "run" / "model.keras"
    trained.parent.mkdir()
    if kind == "not a model":
        trained.write_text("Dear colleague")
    elif kind != "missing":
        framing = Framing.IMAGE if kind == "sees whole images" else Framing.CELL
        embedding = keras.layers.Dense(4)(network.get_layer(model.FEATURES).output)
        both = keras.Model(network.input, [network.outputs[0], embedding])
        facts = {"epochs": 1, "temperature": 1.0, "familiar": {"means": [[0.0] * 4], "limit": 1.0}}
        model.save(model.Trained(both, data.CLASSES, framing, facts), trained)
    if kind == "strange recipe":
        (trained.parent / "recipe.json").write_text('{"oven": 180}')
    elif kind != "without its recipe":
        (trained.parent / "recipe.json").write_text(json.dumps(asdict(Recipe())))
    output = tmp_path / "out" / "wbc.tflite"
    assert quantize.main(["--model", str(trained), "--data", str(made_data), "--output", str(output)]) == 1
    assert message in capsys.readouterr().err
    assert not output.parent.exists()


def test_what_the_card_says_of_the_file_is_what_the_file_does(
    converted: tuple[model.Trained, Path], made_data: Path, tmp_path: Path
) -> None:
    """On the validation cells, of which 5 % are to be looked at and 1 % to be strange."""
    file = tmp_path / "made.tflite"
    for suffix in (".tflite", ".json"):
        file.with_suffix(suffix).write_bytes(converted[1].with_suffix(suffix).read_bytes())
    cells = data.select(data.load(made_data), "validation")
    told = quantize.figures(file, cells, ())
    card = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | told))
    predictor = open_model(file)
    answers = sizes.answer(predictor, cells)
    sure = answers.probabilities.max(axis=1)
    assert 0 < (sure < told["review_below"]).mean() <= 0.05 + 1 / len(cells)
    assert 0 < (answers.strangeness > 1).mean() <= 0.01 + 1 / len(cells)
    names = [c.name for c in predictor.classes]
    right = [names[p.argmax()] == cell.name for p, cell in zip(answers.probabilities, cells, strict=True)]
    assert told["figures"]["accuracy, validation, all classes"] == pytest.approx(np.mean(right), abs=1e-4)


def test_the_name_of_the_output_is_looked_at_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize.main(["--model", str(tmp_path / "none.keras"), "--output", str(tmp_path / "wbc")]) == 1
    assert "wbc: --output names a .tflite file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibrate", "0"], "--calibrate 0: must be at least 1"),
        (["--calibrate", "-1"], "--calibrate -1: must be at least 1"),
        (["--head-crops", "0"], "--head-crops 0: must be at least 1"),
        (["--fine-tune-steps", "-1"], "--fine-tune-steps -1: must be 0 or more"),
        (["--fine-tune-rate", "0"], "--fine-tune-rate 0.0: must be more than 0"),
        (["--seed", "-1"], "--seed -1: must be 0 or more"),
    ],
)
def test_a_setting_that_will_not_do_is_told_first(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "wbc.tflite")]
    assert quantize.main(["--model", str(tmp_path / "none.keras"), *output, *arguments]) == 1
    assert message in capsys.readouterr().err
