import json
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest

from training import adapt, data, division, finish, head, model
from training.framing import Framing
from training.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


@pytest.fixture
def trained() -> model.Trained:
    """A network whose features are random functions of colour, with a head that knows nothing."""
    keras.utils.set_random_seed(1)
    image = keras.Input((64, 64, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(image)
    spread = keras.initializers.RandomNormal(0, 2)
    x = keras.layers.Conv2D(64, 1, activation="relu", kernel_initializer=spread, bias_initializer=spread)(x)
    x = keras.layers.GlobalAveragePooling2D(name=model.FEATURES)(x)
    network = keras.Model(image, keras.layers.Dense(8, activation="softmax", name=model.HEAD)(x))
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (800, 64)), np.repeat(np.arange(8), 100)
    both, familiar = finish.add_embedding(network, features, features[0])
    facts = {"familiar": familiar.facts(), "epochs": 1, "temperature": 1.0}
    return model.Trained(both, data.CLASSES, Framing.CELL, facts)


def mirrored(made_data: Path, folder: Path) -> Path:
    """Make a tree of the training cells' mirror images: cells that no training has met."""
    for s in data.select(data.load(made_data), "train"):
        file = folder / s.name / s.path.name
        file.parent.mkdir(parents=True, exist_ok=True)
        data.write_image(file, np.ascontiguousarray(data.read_image(s.path)[:, ::-1]))
    return folder


def test_the_command_writes_a_better_model_and_refuses_a_worse_one(
    trained: model.Trained, made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    model.save(trained, run / "model.keras")
    (run / "recipe.json").write_text(json.dumps(asdict(Recipe(data=str(made_data)))))
    known = ["--model", str(run / "model.keras"), "--images", str(made_data), "--split", "train"]
    assert adapt.main([*known, "--output", str(tmp_path / "known")]) == 1
    assert "32 of 32 cells were part of the first training" in capsys.readouterr().err
    assert not (tmp_path / "known").exists()
    arguments = ["--model", str(run / "model.keras"), "--images", str(mirrored(made_data, tmp_path / "site"))]
    assert adapt.main([*arguments, "--output", str(run)]) == 1
    assert "holds the first model" in capsys.readouterr().err
    assert adapt.main([*arguments, "--output", str(tmp_path / "better")]) == 0
    assert model.load(tmp_path / "better" / "model.keras").names == trained.names
    told = (tmp_path / "better" / "report.html").read_text()
    assert "this site, by cross-validation" in told
    assert told.count("<img") == 4
    assert "this site, by cross-validation" in capsys.readouterr().out
    again = ["--model", str(tmp_path / "better" / "model.keras"), *arguments[2:]]
    assert adapt.main([*again, "--data", str(made_data), "--output", str(tmp_path / "again")]) == 1
    assert "32 of 32 cells were part of the first training" in capsys.readouterr().err
    cells = data.load(tmp_path / "site")
    assert division.recognised(cells, tmp_path / "better" / "model.keras") == cells
    assert division.recognised(cells, run / "model.keras") == []
    monkeypatch.setattr(head, "why_worse", lambda figures: "it is worse")
    assert adapt.main([*arguments, "--output", str(tmp_path / "worse")]) == 1
    assert "it is worse" in capsys.readouterr().err
    assert not (tmp_path / "worse").exists()


def test_a_seed_that_will_not_do_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["--model", str(tmp_path / "none.keras"), "--images", str(tmp_path)]
    assert adapt.main([*missing, "--seed", "-1"]) == 1
    assert "--seed -1: must be 0 or more" in capsys.readouterr().err
