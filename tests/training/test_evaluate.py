import json
from pathlib import Path

import numpy as np
import pytest

from edge.errors import UserError
from training import data
from training.evaluate import evaluate, main

NAMES = ("a", "b", "c")


def sample(name: str) -> data.Sample:
    return data.Sample(Path(f"{name}.png"), f"{name}.png", name, "made", "test")


def test_only_the_chosen_classes_are_judged_by_the_largest_of_them() -> None:
    answers = np.array([[0.4, 0.1, 0.5], [0.1, 0.3, 0.6], [0, 0, 1]], np.float32)
    figures = evaluate([sample("a"), sample("a"), sample("c")], answers, NAMES, ("a", "b"))
    assert figures["confusion"] == [[1, 1], [0, 0]]
    assert figures["accuracy"] == 0.5
    assert figures["predictions"][0] == {
        "file": "a.png",
        "class": "a",
        "predicted": "a",
        "confidence": pytest.approx(0.4),
    }


def test_no_image_of_the_classes_is_an_error() -> None:
    with pytest.raises(UserError, match="b"):
        evaluate([sample("a")], np.ones((1, 3), np.float32), NAMES, ("b",))


def test_the_shipped_model_knows_real_cells(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "figures.json"
    arguments = [
        "--data",
        str(shared_data),
        "--split",
        "validation",
        "--classes",
        "five",
        "--json",
        str(file),
    ]
    assert main(arguments) == 0
    figures = json.loads(file.read_text())
    assert figures["accuracy"] > 0.98
    assert min(f["sensitivity"] for f in figures["per_class"].values()) > 0.95
    assert f"accuracy {100 * figures['accuracy']:.2f} %" in capsys.readouterr().out


def test_a_wrong_split_is_told(shared_data: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--data", str(shared_data), "--split", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err
