from pathlib import Path

import keras
import numpy as np
import pytest

from training.callbacks import Best, History, epochs_without_gain, read_history

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


@pytest.mark.parametrize(
    ("accuracies", "since"),
    [([], 0), ([0.5], 0), ([0.5, 0.6], 0), ([0.6, 0.5], 1), ([0.5, 0.6, 0.6, 0.6], 2)],
)
def test_epochs_since_the_best(accuracies: list[float], since: int) -> None:
    assert epochs_without_gain(accuracies) == since


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
    again = Best(file, weights, patience=2)
    again.set_model(network)
    network.stop_training = False
    again.on_train_begin()
    assert network.stop_training
