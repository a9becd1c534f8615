from pathlib import Path

import pytest

from edge.errors import UserError
from training import history


@pytest.mark.parametrize(
    ("accuracies", "since"),
    [([], 0), ([0.5], 0), ([0.5, 0.6], 0), ([0.6, 0.5], 1), ([0.5, 0.6, 0.6, 0.6], 2)],
)
def test_epochs_since_the_best(accuracies: list[float], since: int) -> None:
    assert history.epochs_without_gain(accuracies) == since


def test_what_was_written_is_read_again_and_nothing_before_the_first_epoch(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    assert history.read(file) == []
    epochs = [{"epoch": 0, "val_accuracy": 0.5}, {"epoch": 1, "val_accuracy": 0.25}]
    history.write(file, epochs)
    assert history.read(file) == epochs
    assert [f.name for f in tmp_path.iterdir()] == ["history.csv"]
    written = file.read_text()
    history.write(file, history.read(file))
    assert file.read_text() == written


@pytest.mark.parametrize("line", [b"0,x", b"0", b"0,\xff"])
def test_what_is_no_number_is_told(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "history.csv").write_bytes(b"epoch,val_accuracy\n" + line + b"\n")
    with pytest.raises(UserError, match=r"history\.csv: every line must hold a number"):
        history.read(tmp_path / "history.csv")
