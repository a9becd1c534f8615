"""The epochs of a run, and what happens between them."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import h5py
import keras
import numpy as np

from edge.errors import UserError
from edge.whole import whole
from training import history
from training.progress import Meter, remaining


class Finite(keras.callbacks.Callback):
    """Ends a run whose loss is no number any more, before the epoch is written down."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Look at the epoch's loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise UserError(
                f"in epoch {epoch + 1} the loss became {loss}: nothing is learned any more; give a smaller "
                "--learning-rate, and --output another folder"
            )


class History(keras.callbacks.Callback):
    """Appends every epoch to history.csv; in a resumed run, after the epochs that are there already."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Add the epoch, unless it was written before the run was cut off."""
        rows = [row for row in history.read(self._file) if row["epoch"] < epoch]
        rows.append({"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}})
        history.write(self._file, rows)


_SEEDS = "seeds"
"""Attribute of a backup that holds the state of chance."""
_RUN = "run"
"""Attribute of a backup that tells whose it is: the run's recipe."""


class Backup(keras.callbacks.Callback):
    """Keeps what a run needs to go on: weights, averages, the optimizer's moments, and the state of chance.

    The last is of the layers that draw lots, such as Dropout: a resumed run draws what an uninterrupted one
    would. Another backend than the one before draws other lots from it.

    A file is whole or not there, and names the epochs that it has seen: a kill at any moment costs one
    epoch at most.

    Args:
        folder: takes the file.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the new file, then remove the old ones."""
        self._folder.mkdir(exist_ok=True)
        file = self._file(epoch + 1)
        with whole(file) as part:
            self.model.save_weights(part)
            with h5py.File(part, "a") as written:
                states = [np.asarray(seed, np.int64) for seed in _seeds(self.model)]
                written.attrs[_SEEDS] = np.reshape(states, (-1, 2))
                written.attrs[_RUN] = json.dumps(self._recipe())
        for other in self._files():
            if other != file:
                other.unlink()

    @property
    def done(self) -> int:
        """Epochs of the newest file; 0 where there is none."""
        return max((int(f.name.split(".")[0]) for f in self._files()), default=0)

    def restore(self, network: keras.Model, record: Path) -> int:
        """Load the newest file into a compiled `network`, cut `record` to it; return the epochs done."""
        done = self.done
        if done:
            self._check_own(self._file(done))
        rows = history.read(record)
        if rows[:done]:
            history.write(record, rows[:done])
        else:
            record.unlink(missing_ok=True)
        if done:
            newest = self._file(done)
            network.optimizer.build(network.trainable_variables)
            try:
                network.load_weights(newest)
                _restore_seeds(network, newest)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                told = str(error).partition("\n")[0]
                raise UserError(f"{newest}: not a backup of this run ({told}); remove it") from None
        return done

    def _recipe(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self._folder.parent / "recipe.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _check_own(self, file: Path) -> None:
        try:
            with h5py.File(file) as kept:  # one of an older version does not tell
                theirs = json.loads(kept.attrs.get(_RUN, "{}"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not a backup of this run ({error}); remove it") from None
        ours = self._recipe()
        # What only one of them has is of another version of the program.
        others = sorted(n for n in theirs.keys() & ours.keys() if n != "epochs" and theirs[n] != ours[n])
        if others:
            raise UserError(f"{file}: a backup of another run (another {', '.join(others)}); remove it")

    def _file(self, epochs: int) -> Path:
        return self._folder / f"{epochs}.weights.h5"

    def _files(self) -> list[Path]:
        return [f for f in self._folder.glob("*.weights.h5") if f.name.split(".")[0].isdigit()]


def _seeds(network: keras.Model) -> list[keras.Variable]:
    """Return the state of chance of each layer that has one: what Keras does not count as a weight."""
    weights = {id(w) for w in network.weights}
    return [v for v in network.variables if id(v) not in weights]


def _restore_seeds(network: keras.Model, file: Path) -> None:
    with h5py.File(file) as kept:
        if _SEEDS in kept.attrs:  # else it is of an older version: its lots begin with the first again
            for seed, state in zip(_seeds(network), kept.attrs[_SEEDS], strict=True):
                seed.assign(state)


class Best(keras.callbacks.Callback):
    """Keeps the weights of the best validation epoch, and stops when none was better for `patience` epochs.

    It judges by history.csv, so that a resumed run stops where an uninterrupted one would.
    """

    def __init__(self, file: Path, weights: Path, patience: int) -> None:
        super().__init__()
        self._file, self._weights, self._patience = file, weights, patience

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save or stop."""
        if history.epochs_without_gain([row["val_accuracy"] for row in history.read(self._file)]) == 0:
            with whole(self._weights) as part:
                self.model.save_weights(part)
        self.model.stop_training = history.has_stopped(self._file, self._patience)


class Progress(keras.callbacks.Callback):
    """One line an epoch on stdout, with the time that remains; on a terminal, the batch too."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs
        self._begun = 0.0
        self._first = -1
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Start the clock with the first epoch."""
        self._epoch = epoch
        if self._first < 0:
            self._first, self._begun = epoch, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Show where it is, where a person looks on."""
        if sys.stderr.isatty() and batch % 10 == 9:
            done = self._epoch - self._first + (batch + 1) / self.params["steps"]
            print(
                f"\repoch {self._epoch + 1} of {self._epochs}, batch {batch + 1} of {self.params['steps']}, "
                f"{remaining(done, self._epochs - self._first, self._begun)}   ",
                end="",
                file=sys.stderr,
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Print the epoch's line."""
        end = "\r\033[K" if sys.stderr.isatty() else ""
        print(end, end="", file=sys.stderr, flush=True)
        print(
            f"epoch {epoch + 1} of {self._epochs}: {_figures(logs or {})}, "
            f"{remaining(epoch + 1 - self._first, self._epochs - self._first, self._begun)}",
            flush=True,
        )


def _figures(logs: Mapping[str, Any]) -> str:
    """Return what tells how good a network is by now: without an accuracy, its loss."""
    if "accuracy" not in logs:
        return f"loss {logs.get('loss', math.nan):.4f}"
    right, validated = 100 * logs["accuracy"], 100 * logs.get("val_accuracy", math.nan)
    return f"accuracy {right:.2f} %, validation {validated:.2f} %"


class Lessons(Protocol):
    """What a network learns from (`keras.utils.PyDataset`), drawn anew for each epoch."""

    def begin(self, epoch: int) -> None:
        """Draw what `epoch` shows; a resumed run draws the same."""

    def __getitem__(self, index: int) -> tuple[Any, ...]: ...


def learn(
    network: keras.Model,
    lessons: Lessons,
    folder: Path,
    epochs: int,
    *,
    exam: keras.utils.PyDataset | None = None,
    patience: int = 0,
    more: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train a compiled network for `epochs`, or go on with the run that was stopped in `folder`.

    Args:
        network: to train.
        lessons: to learn from.
        folder: of the run: its history.csv and its backup.
        epochs: of the whole run.
        exam: what validates each epoch.
        patience: epochs without a better one on `exam`, after which a run is over; 0 for never.
        more: what else happens between the epochs.

    Raises:
        UserError: the backup is another network's, or the loss became no number.
    """
    record, backup = folder / "history.csv", Backup(folder / "backup")
    done = backup.restore(network, record)
    if done >= epochs or history.has_stopped(record, patience):
        # As Keras does at the end of a training: the average of the weights takes their place.
        network.optimizer.finalize_variable_values(network.trainable_variables)
        return
    print(f"epoch {done + 1} of {epochs} begins with compiling the network", flush=True)
    # Else Keras takes a batch of the first epoch to make its metrics with; on JAX and PyTorch those behind it
    # stay in the queue, and each epoch begins with some of the one before.
    network.test_on_batch(*lessons[0])
    network.fit(
        lessons,
        initial_epoch=done,
        epochs=epochs,
        validation_data=exam,
        shuffle=False,  # the lessons draw their order, a resumed run's too
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: lessons.begin(epoch)),
            Finite(),
            History(record),
            Progress(epochs),
            *more,
            backup,  # last: whatever else an epoch leaves is there before the epoch counts as done
        ],
    )


class Watch(keras.callbacks.Callback):
    """Shows how far a prediction is."""

    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Start the clock."""
        self._meter = Meter(self.params["steps"], "batches of cells")

    def on_predict_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Show the batches that are done."""
        self._meter.show(batch + 1)
