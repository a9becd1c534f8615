"""The epochs of a run, one a line: its `history.csv`."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.errors import UserError
from edge.whole import whole

Epoch = dict[str, float]
"""Epoch (from 0) and loss; of a classifier also accuracy, val_accuracy, val_loss; accuracies 0..1."""


def read(file: Path) -> list[Epoch]:
    """Return the epochs so far, oldest first; an empty list before the first has ended.

    Raises:
        UserError: something else than numbers is in it.
    """
    if not file.exists():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError, csv.Error):
        raise UserError(f"{file}: every line must hold a number in every column; train again") from None


def write(file: Path, epochs: Sequence[Mapping[str, float]]) -> None:
    """Write the epochs, one at least; all of it or nothing."""
    with whole(file) as part, part.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(epochs[-1]))
        writer.writeheader()
        writer.writerows({**epoch, "epoch": int(epoch["epoch"])} for epoch in epochs)


def epochs_without_gain(accuracies: Sequence[float]) -> int:
    """Return how many epochs have passed since the best one; the first of equals is the best."""
    return len(accuracies) - 1 - max(range(len(accuracies)), key=accuracies.__getitem__) if accuracies else 0


def has_stopped(file: Path, patience: int) -> bool:
    """Tell whether the run is over: none of its last `patience` epochs was better; 0 never stops."""
    return 0 < patience <= epochs_without_gain([epoch["val_accuracy"] for epoch in read(file)])
