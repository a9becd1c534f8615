import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from edge.errors import UserError
from training.callbacks import (
    Backup,
    Best,
    Finite,
    History,
    Progress,
    Watch,
)
from training.history import has_stopped
from training.history import read as read_history

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


COUNTED = """
import sys
from pathlib import Path
import keras
import numpy as np
from training.callbacks import learn
class Numbers(keras.utils.PyDataset):
    def __len__(self):
        return 10
    def begin(self, epoch):
        self.epoch = epoch
    def __getitem__(self, index):
        return np.full((1, 1), 100 * self.epoch + index, np.float32), np.zeros((1, 1), np.float32)
lessons = Numbers(workers=2, use_multiprocessing=False, max_queue_size=6)
lessons.begin(0)
network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
network.compile(keras.optimizers.SGD(0.0), lambda truth, answer: answer, weighted_metrics=["accuracy"])
learn(network, lessons, Path(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_each_epoch_shows_its_own_lessons(tmp_path: Path, backend: str) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    for epochs in ("2", "3"):
        command = [sys.executable, "-c", COUNTED, str(tmp_path), epochs]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    losses = [row["loss"] for row in read_history(tmp_path / "history.csv")]
    assert losses == pytest.approx([4.5, 104.5, 204.5])


def test_history_goes_on_where_it_was_and_drops_a_repeated_epoch(tmp_path: Path) -> None:
    history = History(tmp_path / "history.csv")
    for epoch, value in ((0, 0.1), (1, 0.2), (1, 0.3), (2, 0.4)):
        history.on_epoch_end(epoch, {"val_accuracy": value})
    assert [row["val_accuracy"] for row in read_history(tmp_path / "history.csv")] == [0.1, 0.3, 0.4]


def test_training_stops_after_patience_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    file, weights = tmp_path / "history.csv", tmp_path / "best.weights.h5"
    history, best = History(file), Best(file, weights, patience=2)
    best.set_model(network)
    stops = []
    for epoch, value in enumerate([0.5, 0.7, 0.6, 0.7]):
        network.set_weights([np.array([[value]]), np.array([float(epoch)])])
        history.on_epoch_end(epoch, {"val_accuracy": value})
        best.on_epoch_end(epoch)
        stops.append(network.stop_training)
    assert stops == [False, False, False, True]
    network.load_weights(weights)
    assert network.get_weights()[1] == 1  # the first of the two best epochs
    assert has_stopped(file, 2)
    assert not has_stopped(file, 3)
    assert not has_stopped(file, 0)


@pytest.mark.parametrize(
    ("logs", "told"),
    [
        ({"loss": 0.5}, "epoch 1 of 3: loss 0.5000, "),
        ({"loss": 0.5, "accuracy": 0.9, "val_accuracy": 0.8}, "accuracy 90.00 %, validation 80.00 %, "),
    ],
)
def test_an_epoch_is_told_by_what_the_network_measures(
    logs: dict[str, float], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(3)
    progress.on_epoch_begin(0)
    progress.on_epoch_end(0, logs)
    line = capsys.readouterr().out
    assert told in line
    assert line.endswith("remain\n")


def compiled() -> keras.Model:
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.compile("adam", "mse")
    network.optimizer.build(network.trainable_variables)
    return network


def test_a_backup_is_the_newest_whole_epoch_and_cuts_the_history_to_it(tmp_path: Path) -> None:
    file, backup = tmp_path / "history.csv", Backup(tmp_path / "backup")
    history, network = History(file), compiled()
    backup.set_model(network)
    for epoch in range(3):
        network.set_weights([np.array([[float(epoch)]]), np.zeros(1)])
        history.on_epoch_end(epoch, {"val_accuracy": 0.5})
        if epoch < 2:  # killed before the third was kept
            backup.on_epoch_end(epoch)
    (tmp_path / "backup" / "part.weights.h5").write_bytes(b"half")
    other = compiled()
    assert Backup(tmp_path / "backup").restore(other, file) == 2
    assert other.get_weights()[0] == 1
    assert len(read_history(file)) == 2
    assert [f.name for f in (tmp_path / "backup").glob("[0-9]*")] == ["2.weights.h5"]
    (tmp_path / "backup" / "3.weights.h5").write_bytes(b"half")
    with pytest.raises(UserError, match=r"3\.weights\.h5: not a backup of this run"):
        backup.restore(other, file)


def test_a_backup_of_another_run_is_refused(tmp_path: Path) -> None:
    recipe, network, backup = tmp_path / "recipe.json", compiled(), Backup(tmp_path / "backup")
    recipe.write_text('{"seed": 1, "epochs": 1}')
    backup.set_model(network)
    backup.on_epoch_end(0)
    recipe.write_text('{"epochs": 2, "seed": 1}')
    assert backup.restore(compiled(), tmp_path / "history.csv") == 1, "a longer run goes on"
    recipe.write_text('{"epochs": 2, "seed": 1, "new": true}')
    assert backup.restore(compiled(), tmp_path / "history.csv") == 1, "so does one of the version before"
    recipe.write_text('{"seed": 2, "epochs": 2}')
    with pytest.raises(UserError, match=r"1\.weights\.h5: a backup of another run .another seed.; remove it"):
        backup.restore(compiled(), tmp_path / "history.csv")


def test_a_backup_holds_the_state_of_chance_and_an_older_one_need_not(tmp_path: Path) -> None:
    def network() -> keras.Model:
        layers = [keras.Input((50,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(1)]
        made = keras.Sequential(layers)
        made.compile("adam", "mse")
        made.optimizer.build(made.trainable_variables)
        return made

    def drawn(made: keras.Model) -> list[float]:
        return np.asarray(made.layers[0](np.ones((1, 50)), training=True)).tolist()

    straight, backup = network(), Backup(tmp_path)
    first = drawn(straight)
    backup.set_model(straight)
    backup.on_epoch_end(0)
    second, resumed, older = drawn(straight), network(), network()
    assert backup.restore(resumed, tmp_path / "history.csv") == 1
    assert drawn(resumed) == second != first
    with h5py.File(tmp_path / "1.weights.h5", "a") as file:
        del file.attrs["seeds"]
    assert backup.restore(older, tmp_path / "history.csv") == 1
    assert drawn(older) == first


def test_a_run_without_a_backup_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    History(file).on_epoch_end(0, {"val_accuracy": 0.5})
    assert Backup(tmp_path / "backup").restore(compiled(), file) == 0
    assert not file.exists()


def test_a_person_sees_how_far_a_prediction_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    compiled().predict(np.zeros((5, 1)), batch_size=2, verbose=0, callbacks=[Watch()])
    assert "2 of 3 batches of cells" in capsys.readouterr().err


def test_a_run_that_learns_nothing_any_more_ends() -> None:
    Finite().on_epoch_end(0, {"loss": 0.5})
    with pytest.raises(UserError, match=r"in epoch 3 the loss became nan.*smaller --learning-rate"):
        Finite().on_epoch_end(2, {"loss": float("nan")})
