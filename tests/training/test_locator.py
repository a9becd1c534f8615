from pathlib import Path

import keras
import numpy as np
import pytest

from edge.cells import Box
from edge.localise import decode
from training.fields import drawn, edges_of
from training.litter import Scene
from training.locator import STRIDE, Lessons, Recipe, build, loss, main, targets, train

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
    weights = keras.models.load_model(tmp_path / "locator.keras", compile=False).get_weights()
    again = train(fields, recipe, tmp_path).get_weights()
    # All epochs are done: nothing is learned anew.
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_lessons_are_drawn_anew_for_each_epoch() -> None:
    lessons = Lessons(list(drawn(2, np.random.default_rng(0))), Recipe(batch=2, steps=1))
    first, same = lessons[0], lessons[0]
    lessons.on_epoch_end()
    assert np.array_equal(first[0], same[0])
    assert not np.array_equal(first[0], lessons[0][0])
    assert first[0].shape == (2, SIZE, SIZE, 3)
    assert first[1].shape == (2, SIZE // STRIDE, SIZE // STRIDE, 10)


def test_the_network_is_small() -> None:
    assert build().count_params() < 150_000


def test_missing_data_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "run")]) == 1
    assert "error:" in capsys.readouterr().err
