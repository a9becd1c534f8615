"""The ablation table: one training a row, each judged where the others are."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import ablation

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up


def test_a_row_for_each_variant(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {name: ablation.VARIANTS[name] for name in ("our recipe", "no augmentation, whole image")}
    monkeypatch.setattr(ablation, "VARIANTS", some)
    monkeypatch.setitem(ablation.RECIPES, "robust", replace(ablation.RECIPES["robust"], textbook=2))
    command = [
        *("--data", str(made_data), "--weights", "none", "--size", "32", "--epochs", "1"),
        *("--elsewhere", "pbc", "--output", str(tmp_path / "runs")),
    ]
    assert ablation.main(command) == 0
    heading, *rows = capsys.readouterr().out.splitlines()[-3:]
    assert heading.split()[-4:] == ["basophil", "F1", "validation", "pbc"]
    assert [row[:33].strip() for row in rows] == list(some)
    assert all(0 <= float(share) <= 100 for row in rows for share in row[33:].split())
    recipes = [
        (tmp_path / "runs" / name / "recipe.json").read_text()
        for name in ("our-recipe", "no-augmentation-whole-image")
    ]
    assert '"framing": "cell"' in recipes[0]
    assert '"framing": "image"' in recipes[1]


def test_an_unknown_laboratory_is_told_before_any_training(
    made_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", str(made_data), "--elsewhere", "mars", "--output", str(tmp_path / "runs")]
    assert ablation.main(command) == 1
    assert "mars" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
