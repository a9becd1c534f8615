import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.errors import UserError
from training import crossvalidate, data
from training.crossvalidate import FoldTask, cross_validate, folds, leave_one_source_out, table
from training.recipe import Recipe


def sample(number: int, source: str = "pbc", split: str = "") -> data.Sample:
    """Three images of a film; two classes."""
    name = ("neutrophil", "neutrophil", "monocyte", "monocyte")[number % 4]
    file = f"{source}/{number}.png"
    return data.Sample(Path(file), file, name, source, split, film=f"{source} {number // 3}")


SAMPLES = [sample(n) for n in range(60)]


def judged(task: FoldTask) -> dict[str, Any]:
    """Call everything a neutrophil: half right. Runs in a worker."""
    predictions = [
        {"file": s.file, "class": s.name, "predicted": "neutrophil", "confidence": 0.9}
        for s in task.fold.of("test")
    ]
    right = sum(p["class"] == "neutrophil" for p in predictions)
    wrong = len(predictions) - right
    return {
        "accuracy": right / len(predictions),
        "classes": ["monocyte", "neutrophil"],
        "confusion": [[0, wrong], [0, right]],
        "predictions": predictions,
    }


def test_every_image_is_tested_once_and_no_film_is_on_two_sides() -> None:
    divided = folds(SAMPLES, 5, seed=1)
    assert [f.name for f in divided] == [f"fold {n} of 5" for n in range(1, 6)]
    assert Counter(s.file for f in divided for s in f.of("test")) == Counter(s.file for s in SAMPLES)
    for fold in divided:
        assert sorted(s.file for s in fold.samples) == sorted(s.file for s in SAMPLES)
        number = Counter(s.split for s in fold.samples)
        assert number["test"] == 12
        assert number["validation"] in (3, 6)
        places = defaultdict(set)
        for s in fold.samples:
            places[s.film].add(s.split)
        assert all(len(splits) == 1 for splits in places.values())


def test_nothing_learns_from_split_test_or_from_doubted_labels() -> None:
    doubted, _ = (Path(data.__file__).parent / "doubted.csv").read_text().splitlines()[1:3]
    file, name = doubted.split(",")[:2]
    strange = data.Sample(Path(file), file, name, "bccd", "other-laboratory")
    known = [*SAMPLES, *(sample(n, "elsewhere", "test") for n in range(60, 90)), strange]
    for fold in folds(known, 5, seed=1):
        assert not any(s.source == "elsewhere" for s in fold.samples)
        assert strange.file not in {s.file for split in ("train", "validation") for s in fold.of(split)}
    assert sum(s.file == strange.file for fold in folds(known, 5, seed=1) for s in fold.of("test")) == 1
    others = [sample(n, "bccd", "other-laboratory") for n in range(60, 90)]
    for fold in leave_one_source_out([*known, *others], seed=1):
        assert strange.file not in {s.file for split in ("train", "validation") for s in fold.of(split)}


def test_a_source_left_out_is_tested_whole_and_trains_nothing() -> None:
    known = [sample(n, "pbc", ("train", "train", "validation", "test")[n % 4]) for n in range(40)]
    other = [sample(n, "bccd", "other-laboratory") for n in range(60)]
    without_bccd, without_pbc = leave_one_source_out(known + other, seed=1)
    assert without_bccd.name == "without bccd"
    assert {s.source for s in without_bccd.of("test")} == {"bccd"}
    assert len(without_bccd.of("test")) == 60
    assert sorted(s.file for s in without_bccd.of("train")) == sorted(
        s.file for s in known if s.split == "train"
    )
    assert len(without_bccd.of("validation")) == 10
    assert len(without_bccd.samples) == 90  # the ten test images of pbc are used for nothing
    assert {s.source for s in without_pbc.of("test")} == {"pbc"}
    assert len(without_pbc.of("test")) == 40
    assert Counter(s.split for s in without_pbc.samples if s.source == "bccd") == {
        "train": 54,
        "validation": 6,
    }


def test_known_splits_are_kept_and_only_the_rest_is_divided() -> None:
    known = [sample(n, "pbc", "validation" if n < 6 else "train") for n in range(30)]
    free = [sample(n, "zheng1", "") for n in range(60)]
    left_out = [sample(n, "bccd", "") for n in range(3)]
    fold = leave_one_source_out(known + free + left_out, seed=1)[0]
    kept = {s.file: s.split for s in fold.samples if s.source == "pbc"}
    assert kept == {s.file: s.split for s in known}
    assert Counter(s.split for s in fold.samples if s.source == "zheng1") == {"train": 54, "validation": 6}


def test_there_must_be_something_to_leave_out_and_something_to_train_on() -> None:
    with pytest.raises(UserError, match=r"one source alone \(pbc\)"):
        leave_one_source_out(SAMPLES, seed=1)
    with pytest.raises(UserError, match="without source bccd there is no image to train on"):
        leave_one_source_out([sample(0, "pbc", "test"), sample(0, "bccd", "train")], seed=1)


def test_one_film_left_to_learn_from_is_told_before_any_training() -> None:
    with pytest.raises(UserError, match="fold 1 of 2: what is left to learn from is of one blood film"):
        folds([sample(n) for n in range(9)], 2, seed=1)
    with pytest.raises(UserError, match="without pbc: what is left"):
        leave_one_source_out([*SAMPLES, *(sample(n, "zheng1") for n in range(3))][57:], seed=1)


def test_folds_run_as_tasks_and_are_told_together(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    divided = folds(SAMPLES[:59], 2, seed=1)
    recipe = Recipe(epochs=1)
    result = cross_validate(divided, recipe, tmp_path / "run", workers=1, task=judged)
    assert result == json.loads((tmp_path / "run" / "cross-validation.json").read_text())
    tests = [len(f.of("test")) for f in divided]
    assert [f["test"] for f in result["folds"]] == tests
    shares = [sum(s.name == "neutrophil" for s in f.of("test")) / len(f.of("test")) for f in divided]
    assert [f["accuracy"] for f in result["folds"]] == shares
    assert result["mean"] == pytest.approx(sum(shares) / 2)
    assert result["standard_deviation"] == pytest.approx(abs(shares[0] - shares[1]) / 2**0.5)
    assert result["accuracy"] == pytest.approx(30 / 59)
    assert result["confusion"] == [[0, 29], [0, 30]]
    assert result["per_class"]["neutrophil"]["sensitivity"] == 1
    low, high = result["intervals"]["accuracy"]
    assert low < 30 / 59 < high
    assert Counter(p["file"] for p in result["predictions"]) == Counter(s.file for s in SAMPLES[:59])
    assert {p["fold"] for p in result["predictions"]} == {"fold 1 of 2", "fold 2 of 2"}
    lines = table(result).splitlines()
    assert lines[1].split() == [
        *["fold", "1", "of", "2", str(len(divided[0].of("train"))), str(tests[0]), str(tests[0])],
        f"{100 * shares[0]:.2f}",
    ]
    assert lines[3].split()[:3] == ["mean", f"{50 * sum(shares):.2f}", "±"]
    assert lines[4].split() == ["all", "images", "59", "59", "50.85"]


def test_models_that_learned_different_classes_are_pooled_by_name() -> None:
    """The second fold's model does not know monocytes, and one of its test images is not judged."""
    first, second = folds(SAMPLES, 2, seed=1)
    answers = [
        {
            "accuracy": 0.0,
            "classes": ["monocyte", "neutrophil"],
            "predictions": [{"class": "monocyte", "predicted": "neutrophil", "confidence": 0.6}],
        },
        {
            "accuracy": 1.0,
            "classes": ["neutrophil", "platelet"],
            "predictions": [{"class": "platelet", "predicted": "platelet", "confidence": 0.9}] * 3,
        },
    ]
    result = crossvalidate.pooled([first, second], answers)
    assert result["classes"] == ["monocyte", "neutrophil", "platelet"]
    assert result["confusion"] == [[0, 1, 0], [0, 0, 0], [0, 0, 3]]
    assert result["mean"] == 0.5
    assert result["accuracy"] == 0.75
    assert result["ece"] == pytest.approx(0.25 * 0.6 + 0.75 * 0.1)
    assert [(f["test"], f["judged"]) for f in result["folds"]] == [(30, 1), (30, 3)]


def test_a_fold_is_trained_and_judged_on_its_own_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import evaluate, predict, train

    seen: dict[str, Any] = {}

    def trained(recipe: object, output: Path, samples: Sequence[data.Sample]) -> Path:
        output.mkdir()
        seen["train"] = (recipe, [s.split for s in samples])
        return output / "model.keras"

    def judge(model: str, samples: Sequence[data.Sample], classes: Sequence[str] | None) -> dict[str, Any]:
        seen["judge"] = (model, {s.split for s in samples}, classes)
        return judged(FoldTask(fold, recipe, tmp_path, None))

    monkeypatch.setattr(train, "train", trained)
    opened = SimpleNamespace(classes=[data.CLASSES[0], *(c for c in data.CLASSES if c.name == "monocyte")])
    monkeypatch.setattr(predict, "open_model", lambda file: opened)
    monkeypatch.setattr(evaluate, "judge", judge)
    recipe: Any = object()
    fold = folds(SAMPLES, 5, seed=1)[0]
    asked = ("monocyte", "eosinophil")  # the model has learned no eosinophil
    figures = crossvalidate.train_and_judge(FoldTask(fold, recipe, tmp_path / "a", asked))
    assert seen["train"] == (recipe, [s.split for s in fold.samples])
    assert seen["judge"] == (opened, {"test"}, ["monocyte"])
    assert json.loads((tmp_path / "a" / "evaluation.json").read_text()) == figures


def test_a_fold_that_validates_what_it_cannot_learn_is_told_before_any_training(tmp_path: Path) -> None:
    samples = [sample(n, split="train") for n in range(10)]
    samples += [replace(sample(n, split="validation"), name="basophil") for n in range(10, 12)]
    fold = crossvalidate.Fold("without c", (*samples, sample(12, split="test")))
    with pytest.raises(UserError, match="without c: no training image of class basophil"):
        crossvalidate.cross_validate([fold], Recipe(), tmp_path / "out", task=judged)
    assert not (tmp_path / "out").exists()
    others = [replace(s, name="erythroblast") if s.name == "basophil" else s for s in fold.samples]
    strange = crossvalidate.Fold("five", (*others, sample(1, split="validation")))
    result = crossvalidate.cross_validate([strange], Recipe(classes="five"), tmp_path / "out", task=judged)
    assert result["folds"][0]["name"] == "five"


def test_a_fold_that_can_judge_nothing_is_told_before_any_training(tmp_path: Path) -> None:
    apart = [sample(n, "a") for n in range(0, 60, 4)] + [sample(n, "b") for n in range(2, 60, 4)]
    with pytest.raises(UserError, match="without a: no class of its test images is learned"):
        cross_validate(leave_one_source_out(apart, 1), "recipe", tmp_path, task=judged)  # type: ignore[arg-type]
