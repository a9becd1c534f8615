from pathlib import Path

import keras
import numpy as np
import pytest

from edge.cells import Box
from edge.errors import UserError
from edge.localise import decode
from training import history
from training.claim import claim
from training.fields import drawn, edges_of
from training.litter import Scene
from training.locator import STRIDE, Lessons, Recipe, build, loss, main, read_recipe, targets, train

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

SIZE = 192


def a_scene(*edges: tuple[float, ...]) -> Scene:
    cells = np.array(edges, np.float32).reshape(-1, 4)
    return Scene(np.zeros((SIZE, SIZE, 3), np.uint8), (SIZE, SIZE), cells, edges_of([Box(0, 0, 20, 20)]))


def test_what_is_taught_can_be_read_back() -> None:
    cells = [(40, 40, 80, 90), (100, 30, 260, 150)]
    truth = targets(a_scene(*cells))
    found, scores = decode(truth[..., :1], truth[..., 2:6], STRIDE, 0.99)
    assert scores.tolist() == [1.0, 1.0]
    assert sorted(found.round().tolist()) == [list(map(float, cell)) for cell in cells]


def test_a_doubted_place_and_an_unknown_edge_teach_nothing() -> None:
    truth = targets(a_scene((np.nan, 60, 50, 120)))
    assert (truth[:5, :5, 1] == 0).all()
    assert truth[40:, 40:, 1].all()
    assert truth[..., 6].sum() == 0
    assert truth[..., 7].sum() == pytest.approx(1)


def test_the_loss_is_least_for_the_truth() -> None:
    truth = targets(a_scene((40, 40, 80, 90)))[None]
    right = np.concatenate([truth[..., :1] > 0.999, truth[..., 2:6]], axis=-1).astype(np.float32)
    moved = np.roll(right, 3, axis=1)
    silent = np.zeros_like(right)
    assert float(loss(truth, right)) < 0.01
    assert float(loss(truth, moved)) > 1
    assert float(loss(truth, silent)) > 1


def test_a_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    fields = list(drawn(2, np.random.default_rng(0)))
    recipe = Recipe(epochs=1, steps=1, batch=2)
    train(fields, recipe, tmp_path)
    assert [epoch["loss"] > 0 for epoch in history.read(tmp_path / "history.csv")] == [True]
    weights = keras.models.load_model(tmp_path / "locator.keras", compile=False).get_weights()
    # All epochs are done: nothing is learned anew.
    again = train(fields, recipe, tmp_path).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    claim(file, Recipe(), read_recipe)
    claim(file, Recipe(steps=9), read_recipe)  # nothing was learned yet
    (tmp_path / "locator.keras").touch()
    claim(file, Recipe(steps=9, epochs=60), read_recipe)
    with pytest.raises(UserError, match=r"another steps, leave_out; give --output another folder"):
        claim(file, Recipe(epochs=60, leave_out=("bccd",)), read_recipe)
    assert read_recipe(file) == Recipe(steps=9, epochs=60)


def test_fewer_epochs_than_are_done_are_refused(tmp_path: Path) -> None:
    fields = list(drawn(2, np.random.default_rng(0)))
    train(fields, Recipe(epochs=2, steps=1, batch=2), tmp_path)
    with pytest.raises(UserError, match="--epochs 1: 2 are done"):
        train(fields, Recipe(epochs=1, steps=1, batch=2), tmp_path)


def test_a_full_network_cannot_pass_for_one_that_left_a_source_out(tmp_path: Path) -> None:
    fields = list(drawn(2, np.random.default_rng(0)))
    train(fields, Recipe(epochs=1, steps=1, batch=2), tmp_path)
    with pytest.raises(UserError, match="another leave_out"):
        train(fields, Recipe(epochs=1, steps=1, batch=2, leave_out=("bccd",)), tmp_path)


def test_a_training_that_is_stopped_has_said_its_recipe_and_left_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(network: keras.Model, file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save", half)
    recipe = Recipe(epochs=1, steps=1, batch=2)
    with pytest.raises(KeyboardInterrupt):
        train(list(drawn(2, np.random.default_rng(0))), recipe, tmp_path)
    assert read_recipe(tmp_path / "recipe.json") == recipe
    assert not (tmp_path / "locator.keras").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs 0: must be at least 1"),
        (["--steps", "0"], "--steps 0: must be at least 1"),
        (["--batch", "0"], "--batch 0: must be at least 1"),
        (["--learning-rate", "0"], "--learning-rate 0.0: must be more than 0"),
        (["--learning-rate", "inf"], "--learning-rate inf: must be more than 0"),
        (["--seed", "-1"], "--seed -1: must be 0 to 4294967295"),
        (["--weights", "nosuch"], "--weights nosuch: must be a .keras file"),
        (["--leave-out", "bcd"], "--leave-out bcd: must be some of raabin, pbc, bccd, drawn, but not all"),
        (["--leave-out", "raabin", "pbc", "bccd", "drawn"], "but not all"),
    ],
)
def test_a_setting_that_will_not_do_is_told_before_anything_is_read(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path / "none"), "--output", str(tmp_path / "run"), *arguments]) == 1
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
    assert not (tmp_path / "run").exists()


def test_weights_of_something_else_are_told(tmp_path: Path) -> None:
    (tmp_path / "other.keras").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"other\.keras: not a locator's \.keras file"):
        train([], Recipe(weights=str(tmp_path / "other.keras")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lessons_are_drawn_anew_for_each_epoch() -> None:
    lessons = Lessons(list(drawn(2, np.random.default_rng(0))), Recipe(batch=2, steps=1))
    first, same = lessons[0], lessons[0]
    lessons.begin(1)
    assert np.array_equal(first[0], same[0])
    assert not np.array_equal(first[0], lessons[0][0])
    assert first[0].shape == (2, SIZE, SIZE, 3)
    assert first[1].shape == (2, SIZE // STRIDE, SIZE // STRIDE, 10)


def test_the_network_is_small() -> None:
    assert build().count_params() < 150_000


def test_missing_data_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "run")]) == 1
    assert "error:" in capsys.readouterr().err
