import json
from pathlib import Path

import keras
import pytest

from edge.errors import UserError
from training import train

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    build = train.model.build
    monkeypatch.setattr(train.model, "build", lambda classes, weights, seed: build(classes, None, seed=seed))


def test_a_stopped_run_goes_on_from_its_last_epoch(
    made_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    recipe = train.Recipe(data=str(made_data), epochs=1, batch=16, rendered=0)
    first = train.train(recipe, run)
    assert keras.models.load_model(first).output_shape == (None, 8)
    assert json.loads((run / "recipe.json").read_text())["batch"] == 16
    train.train(train.Recipe(data=str(made_data), epochs=2, batch=16, rendered=0), run)
    history = (run / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history] == ["epoch", "0", "1"]


def test_a_folder_of_another_recipe_is_refused(made_data: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"batch": 8}))
    with pytest.raises(UserError, match="another recipe"):
        train.train(train.Recipe(data=str(made_data), batch=16), tmp_path)


def test_the_draw_of_an_epoch_is_repeatable_and_favours_rare_classes(made_data: Path) -> None:
    table = train.data.select(train.data.read_table(made_data), "train")
    boxes = train.data.locate_cells(table)
    batches = train.Batches(table, boxes, train.Recipe(batch=8))
    before = batches[0][0]
    batches.begin(1)
    assert not (batches[0][0] == before).all()
    batches.begin(0)
    assert (batches[0][0] == before).all()


def test_an_error_is_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert train.main(["--data", str(tmp_path), "--output", str(tmp_path / "run")]) == 1
    assert "cells.csv" in capsys.readouterr().err
    with pytest.raises(UserError):
        train.train(train.Recipe(data=str(tmp_path)), tmp_path / "run")
