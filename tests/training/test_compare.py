import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from edge.errors import UserError
from training import compare, metrics

NAMES = ["eosinophil", "monocyte"]


def evaluation(predicted: str, *, first: int = 0, **more: Any) -> dict[str, Any]:
    """Cells whose truth is eosinophil; `predicted` holds one letter a cell, e or m."""
    answers = [{"e": "eosinophil", "m": "monocyte"}[letter] for letter in predicted]
    matrix = metrics.confusion_matrix([0] * len(answers), [NAMES.index(a) for a in answers], 2)
    return {
        "accuracy": metrics.accuracy(matrix),
        "classes": NAMES,
        "confusion": matrix.tolist(),
        "per_class": {
            n: {k: None if math.isnan(v) else v for k, v in f.items()}
            for n, f in metrics.per_class(matrix, NAMES).items()
        },
        "predictions": [
            {"file": f"{first + i}.png", "class": "eosinophil", "predicted": a, "confidence": 0.9}
            for i, a in enumerate(answers)
        ],
        **more,
    }


def write(folder: Path, name: str, figures: dict[str, Any]) -> Path:
    run = folder / name
    run.mkdir(parents=True)
    (run / "evaluation.json").write_text(json.dumps(figures))
    return run


def read(folder: Path, *evaluations: dict[str, Any]) -> list[compare.Run]:
    return compare.read_runs([write(folder, f"run{i}", e) for i, e in enumerate(evaluations)])


@pytest.mark.parametrize(
    ("table", "limits"),
    [((36, 12, 2, 0), (0.0569, 0.3404)), ((20, 0, 0, 10), None), ((12, 2, 12, 3), None)],
)
def test_the_paired_interval(table: tuple[int, int, int, int], limits: tuple[float, float] | None) -> None:
    """The first is the worked example that Newcombe's method 10 is known by; swapping mirrors them all."""
    low, high = compare.paired_interval(*table)
    both, a, b, neither = table
    assert low < (a - b) / sum(table) < high
    assert compare.paired_interval(both, b, a, neither) == pytest.approx((-high, -low))
    if limits:
        assert (low, high) == pytest.approx(limits, abs=5e-5)


def test_a_pair_is_judged_on_the_cells_of_both(tmp_path: Path) -> None:
    first, second = read(tmp_path, evaluation("eeeeemmee"), evaluation("mmmmeemee", first=1))
    pair = compare.compare(first, second)
    # Cells 1..8: first e e e e m m e e, second m m m m e e m e.
    assert (pair.cells, pair.apart) == (8, 2)
    assert (pair.only_first, pair.only_second) == (5, 2)
    assert pair.difference == pytest.approx(3 / 8)
    assert pair.p == pytest.approx(2 * (1 + 7 + 21) / 128)


def test_runs_that_were_asked_otherwise_are_told(tmp_path: Path) -> None:
    three = {"classes": [*NAMES, "platelet"], "confusion": [[0] * 3] * 3}
    one = evaluation("eeme", images="one") | three
    pair = compare.compare(*read(tmp_path, one, evaluation("eeee", images="other")))
    (caution,) = [text for text in compare.remarks([pair]) if text.startswith("Caution")]
    assert "images of one and of other" in caution
    assert "a choice of 3 and of 2 classes" in caution
    same = compare.compare(*read(tmp_path / "b", evaluation("e", images="one"), evaluation("m")))
    assert not same.unlike, "a run's own figures name no images"


def test_the_same_answers_do_not_differ(tmp_path: Path) -> None:
    first, second = read(tmp_path, evaluation("eeme"), evaluation("eeme"))
    pair = compare.compare(first, second)
    assert (pair.p, pair.difference) == (1.0, 0.0)
    assert pair.limits[0] < 0 < pair.limits[1]


def test_runs_without_a_common_cell_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = write(tmp_path, "one", evaluation("ee")), write(tmp_path, "two", evaluation("ee", first=5))
    assert compare.main([str(one), str(other)]) == 1
    assert "one and two have no cell in common" in capsys.readouterr().err


def test_several_cells_of_one_file_are_told_apart() -> None:
    keys = compare.cell_keys([("a.png", "monocyte"), ("a.png", "monocyte"), ("a.png", "eosinophil")])
    assert keys == [("a.png", "monocyte", 0), ("a.png", "monocyte", 1), ("a.png", "eosinophil", 0)]


def test_the_command_lays_three_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = evaluation("eeem", macro_f1=0.5, balanced_accuracy=0.75, ece=0.0123)
    full["intervals"] = {"accuracy": [0.25, 0.98765]}
    runs = [
        write(tmp_path, "a", full),
        write(tmp_path, "<b>", evaluation("eemm")),
        write(tmp_path, "c", evaluation("eeme", first=1)),
    ]
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    assert compare.main([*map(str, runs), "--html", str(page), "--csv", str(table)]) == 0
    shown = capsys.readouterr().out
    for text in ("75.00", "25.00 to 98.77", "1.23", "F1 eosinophil", "a - <b>", "<b> - c", "3 pairs"):
        assert text in shown
    assert "a and c judged different cells: 2" in shown
    assert "&lt;b&gt;" in page.read_text()
    assert "<b>" not in page.read_text()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {(r["run"], r["value"]) for r in rows if r["figure"] == "accuracy"} >= {("a", "0.75")}
    tests = [(r["run"], r["against"], r["cells"]) for r in rows if r["figure"] == "difference"]
    assert tests == [("a", "<b>", "4"), ("a", "c", "3"), ("<b>", "c", "3")]


def test_runs_of_the_same_name_are_told_by_their_path(tmp_path: Path) -> None:
    paths = [write(tmp_path / p, "run", evaluation("ee")) for p in ("x", "y")]
    assert [r.name for r in compare.read_runs(paths)] == [str(p) for p in paths]


@pytest.mark.parametrize(
    ("content", "told"), [("{", "not JSON"), ("[]", "missing"), ('{"accuracy": 1}', "predictions missing")]
)
def test_a_strange_evaluation_is_told(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text(content)
    with pytest.raises(UserError, match=told):
        compare.read_evaluation(file)


@pytest.mark.parametrize(
    ("part", "content", "told"),
    [
        ("predictions", [{"file": "0.png", "class": "monocyte"}], "prediction 1: predicted missing"),
        ("predictions", [3], "prediction 1: file, class, predicted missing"),
        ("predictions", 3, "not an evaluation"),
        (
            "per_class",
            {"monocyte": {"f1": 1}},
            "per_class, monocyte: precision, sensitivity, support missing",
        ),
        ("accuracy", "99", "not an evaluation"),
        ("confusion", [[1], [2, 3]], "not an evaluation"),
        ("intervals", None, "not an evaluation"),
        ("reliability", [], "ece missing"),
        ("per_class", [], "not an evaluation"),
    ],
)
def test_a_part_that_lacks_something_is_told(tmp_path: Path, part: str, content: Any, told: str) -> None:
    run = write(tmp_path, "run", evaluation("eem") | {part: content})
    with pytest.raises(UserError, match=rf"evaluation\.json: {told}.*; evaluate the model again"):
        compare.read_runs([run])


def test_no_run_and_one_run_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(tmp_path), str(tmp_path / "none")]) == 1
    told = capsys.readouterr().err
    assert "evaluation.json: No such file" in told
    assert "name the --output of a training.train that has ended" in told
    assert compare.main([str(write(tmp_path, "a", evaluation("e")))]) == 1
    assert "name another one" in capsys.readouterr().err
