import json
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from edge.cells import Box
from edge.errors import UserError
from training import adapt, data, finish, model
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


def site(made_data: Path) -> list[data.Sample]:
    """Four cells of each class."""
    return [s for s in data.load(made_data) if s.path.stem in "0123"]


def mirrored(made_data: Path, folder: Path) -> Path:
    """Make a tree of the training cells' mirror images: cells that no training has met."""
    for s in data.select(data.load(made_data), "train"):
        file = folder / s.name / s.path.name
        file.parent.mkdir(parents=True, exist_ok=True)
        data.write_image(file, np.ascontiguousarray(data.read_image(s.path)[:, ::-1]))
    return folder


def test_a_temperature_is_not_chosen_by_the_cells_that_it_is_judged_on() -> None:
    """In the first part the sure answers are wrong: by itself it would be cooled down."""
    truth = np.array([0] * 8, np.int64)
    said = np.array([[0.01, 0.99]] * 4 + [[0.99, 0.01]] * 4, np.float32)
    parts = [np.arange(4), np.arange(4, 8)]
    home = np.array([[0.99, 0.01]], np.float32), np.array([0], np.int64)
    cooled = adapt._cross_cool(said, truth, home, parts)
    assert cooled[0, 1] > 0.99
    assert cooled[4, 0] < 0.9


def test_the_head_learns_a_new_site(trained: model.Trained, made_data: Path) -> None:
    fitted, figures = adapt.adapt(trained, site(made_data), data.load(made_data))
    assert figures["site"]["cells"] == 32
    assert figures["site"]["after"]["accuracy"] > figures["site"]["before"]["accuracy"] + 0.2
    assert fitted.facts["temperature"] not in (1.0, 2.0)
    warm = replace(trained, facts={**trained.facts, "temperature": 2.0})
    again, _ = adapt.adapt(warm, site(made_data), data.load(made_data))
    assert again.facts["temperature"] > 0
    assert adapt.why_worse(figures) is None
    assert len(fitted.facts["familiar"]["means"]) == 16


@pytest.mark.parametrize(
    ("site_after", "home_after", "reason"),
    [
        (0.9, 0.99, None),
        (0.7, 0.99, "site's cells 80.0 % were right, now 70.0 %"),
        (0.9, 0.98, "first training 99.0 %"),
    ],
)
def test_a_worse_model_is_told_with_figures(site_after: float, home_after: float, reason: str | None) -> None:
    shares = {"site": (0.8, site_after), "home": (0.99, home_after)}
    figures = {
        key: {when: {"accuracy": share} for when, share in zip(("before", "after"), pair, strict=True)}
        for key, pair in shares.items()
    }
    told = adapt.why_worse(figures)
    assert told is None if reason is None else reason in str(told)


def test_too_few_cells_and_unknown_classes_are_told(trained: model.Trained, made_data: Path) -> None:
    samples = site(made_data)
    with pytest.raises(UserError, match="10 labelled cells of 3 classes; give 20"):
        adapt.adapt(trained, samples[:10], samples)
    with pytest.raises(UserError, match="no output for blast"):
        adapt.adapt(trained, [replace(samples[0], name="blast"), *samples], samples)


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
    monkeypatch.setattr(adapt, "why_worse", lambda figures: "it is worse")
    assert adapt.main([*arguments, "--output", str(tmp_path / "worse")]) == 1
    assert "it is worse" in capsys.readouterr().err
    assert not (tmp_path / "worse").exists()


def test_a_cell_outside_its_image_is_told(trained: model.Trained, made_data: Path) -> None:
    samples = site(made_data)
    samples[0] = replace(samples[0], box=Box(10, 10, 0, 0))
    with pytest.raises(UserError, match=r"boxes of no size or outside the image: basophil/0\.png"):
        adapt.adapt(trained, samples, samples)


def test_a_seed_that_will_not_do_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["--model", str(tmp_path / "none.keras"), "--images", str(tmp_path)]
    assert adapt.main([*missing, "--seed", "-1"]) == 1
    assert "--seed -1: must be 0 or more" in capsys.readouterr().err


def test_a_cell_that_was_learned_by_its_box_is_known_without_it(made_data: Path) -> None:
    learned = [replace(s, box=Box(20, 20, 60, 60)) for s in data.load(made_data) if s.split == "train"]
    with pytest.raises(UserError, match="were part of the first training"):
        adapt.check_unseen([replace(learned[0], box=None)], learned)
    adapt.check_unseen([replace(learned[0], box=Box(60, 60, 30, 30))], learned)
