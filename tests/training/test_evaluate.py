import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge.cells import Answers
from edge.errors import UserError
from edge.whole import write_json
from training import data, division, evaluate, metrics, study
from training.evaluate import figures, main
from training.recipe import RECIPES

NAMES = ("a", "b", "c")


def sample(name: str) -> data.Sample:
    return data.Sample(Path(f"{name}.png"), f"{name}.png", name, "made", "test")


def answers(*rows: tuple[float, ...]) -> Answers:
    return Answers(np.array(rows, np.float32), np.arange(len(rows), dtype=np.float32))


def test_only_the_chosen_classes_are_judged_by_the_largest_of_them() -> None:
    said = answers((0.4, 0.1, 0.5), (0.1, 0.3, 0.6), (0, 0, 1))
    found = figures([sample("a"), sample("a"), sample("c")], said, NAMES, ("a", "b"))
    assert found["confusion"] == [[1, 1], [0, 0]]
    assert found["accuracy"] == 0.5
    assert found["predictions"][0] == {
        "file": "a.png",
        "class": "a",
        "predicted": "a",
        "confidence": pytest.approx(0.8),
        "strangeness": 0.0,
    }
    assert found["per_class"]["b"]["sensitivity"] is None
    json.dumps(found, allow_nan=False)


def test_a_run_of_eight_classes_tells_its_figures_among_the_studys_five() -> None:
    names = [c.name for c in data.CLASSES]
    said = np.full((3, 8), 0.01)
    said[0, names.index("neutrophil")] = said[2, names.index("platelet")] = 0.9
    said[1, names.index("immature_granulocyte")], said[1, names.index("monocyte")] = 0.6, 0.3
    samples = [sample(n) for n in ("neutrophil", "monocyte", "platelet")]
    found = figures(samples, Answers(said, np.zeros(3)), names, names)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["five"]["accuracy"] == 1
    assert found["five"]["classes"] == list(data.STUDY_CLASSES)
    _, rows = study.table("ours", found)
    assert rows[0][1] == 100
    assert len(rows) == 4


def test_the_figures_follow_from_the_answers() -> None:
    said = answers((0.9, 0.1, 0), (0.8, 0.2, 0), (0.6, 0.4, 0), (0.2, 0.8, 0))
    found = figures([sample(n) for n in "aabb"], said, NAMES, NAMES)
    assert found["accuracy"] == found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    low, high = found["intervals"]["accuracy"]
    assert low < 0.75 < high
    # Gaps: 0.1 of one cell; 0.2 of two cells in one bin; 0.6 of the wrong one.
    assert found["ece"] == pytest.approx((0.1 + 2 * 0.2 + 0.6) / 4, abs=1e-6)
    assert found["review_curve"] == [[0, 0.75], [0.25, 1], [0.5, 1], [0.75, 1]]


@pytest.mark.parametrize(("classes", "message"), [(("b",), "no image"), (("a", "d"), "no output for d")])
def test_classes_that_cannot_be_judged_are_told(classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        figures([sample("a")], answers((1, 0, 0)), NAMES, classes)


def test_the_shipped_model_knows_real_cells(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    some = [s for s in data.select(data.load(shared_data), "validation") if s.name in data.STUDY_CLASSES][::8]
    (tmp_path / "cells.csv").write_text("\n".join(["file,class", *(f"{s.path},{s.name}" for s in some)]))
    file, report = tmp_path / "figures.json", tmp_path / "report"
    five = ["--images", str(tmp_path), "--classes", "five"]
    assert main([*five, "--json", str(file), "--report", str(report)]) == 0
    found = json.loads(file.read_text())
    assert len(found["predictions"]) == len(some) > 200
    assert found["accuracy"] > 0.97
    assert min(f["sensitivity"] for f in found["per_class"].values()) > 0.9
    printed = capsys.readouterr().out
    assert f"{100 * found['accuracy']:8.2f} %" in printed
    assert (tmp_path / "report" / "report.html").is_file()


def test_an_image_that_cannot_be_read_is_left_out_and_told(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    chosen = [s for s in data.load(shared_data) if s.source == "zheng1"][:3]
    strange = ("cut.jpg", "mask.png", "old.gif")
    listed = [f"{s.path},{s.name}" for s in chosen] + [f"{name},neutrophil" for name in strange]
    (tmp_path / "cells.csv").write_text("\n".join(["file,class", *listed]))
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8no picture")
    (tmp_path / "mask.png").write_bytes(chosen[0].path.with_name("001_mask.png").read_bytes())
    (tmp_path / "old.gif").write_bytes(b"GIF89a")
    file = tmp_path / "figures.json"
    assert main(["--images", str(tmp_path), "--classes", "five", "--json", str(file)]) == 3
    found = json.loads(file.read_text())
    assert found["unreadable"] == list(strange)
    assert found["images"] == str(tmp_path)
    assert [p["file"] for p in found["predictions"]] == [str(s.path) for s in chosen]
    assert "cut.jpg, mask.png, old.gif" in capsys.readouterr().err


def test_where_no_image_can_be_read_the_first_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "neutrophil").mkdir()
    (tmp_path / "neutrophil" / "cut.jpg").write_bytes(b"\xff\xd8no picture")
    assert main(["--images", str(tmp_path)]) == 1
    assert "cut.jpg" in capsys.readouterr().err


def test_classes_that_the_model_does_not_tell_are_refused_by_name(
    made_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class FiveClasses:
        classes = data.CLASSES[:5]

    monkeypatch.setattr(evaluate, "open_model", lambda file: FiveClasses())
    assert evaluate.main(["--data", str(made_data)]) == 1
    told = capsys.readouterr().err
    assert "the model does not tell immature_granulocyte (2), erythroblast (2), platelet (2)" in told


def test_two_ways_to_train_by_turns_are_refused(capsys: pytest.CaptureFixture) -> None:
    assert evaluate.main(["--cross-validate", "0", "--leave-one-source-out"]) == 1
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--model", "a.keras"], "--model judges one model"),
        (["--split", "test"], "--split judges one model"),
        (["--robustness"], "--robustness judges one model"),
        (["--report", "x"], "--report judges one model"),
        (["--epochs", "0"], "--epochs 0: must be at least 1"),
    ],
)
def test_what_training_by_turns_cannot_heed_is_refused(
    option: list[str], told: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["--leave-one-source-out", *option]) == 1
    assert told in capsys.readouterr().err


def test_training_by_turns_takes_a_folder_of_images(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def cross_validate(divided, recipe, output, **options):
        seen.append((recipe.data, len(divided[0].samples)))
        raise UserError("enough")

    monkeypatch.setattr(evaluate.crossvalidate, "cross_validate", cross_validate)
    assert main(["--images", str(made_data), "--cross-validate", "2"]) == 1
    assert seen == [(str(made_data), 48)]


def test_a_wrong_split_is_told(shared_data: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--data", str(shared_data), "--split", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_images_that_the_model_learned_from_are_told(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def judge(*_: object) -> None:
        raise UserError("enough")

    monkeypatch.setattr(evaluate, "judge", judge)
    told = {"bccd": "of these 351 images 303 taught or chose the model", "zheng1": "", "test": ""}
    for split, begins in told.items():
        assert main(["--data", str(shared_data), "--split", split, "--classes", "five"]) == 1
        assert capsys.readouterr().out.partition(":")[0].strip() == begins
    (tmp_path / "basophil").mkdir()
    for number, file in enumerate(sorted((shared_data / "cells/pbc/basophil").glob("*.jpg"))[:20]):
        shutil.copy(file, tmp_path / "basophil" / f"{number}.jpg")
    assert main(["--images", str(tmp_path), "--classes", "five"]) == 1
    met = capsys.readouterr().out.partition(" taught")[0]
    assert met.startswith("of these 20 images ")
    assert 10 <= int(met.rsplit(" ", 1)[1]) <= 20


def test_a_part_of_the_models_run_is_judged(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The data calls other images its test part than those that the run kept for it."""
    samples = data.select(data.load(made_data), "validation")
    division.write(tmp_path / "split.csv", [*(replace(s, split="test") for s in samples)])
    seen = []

    def judge(predictor: object, samples: list[data.Sample], classes: object) -> None:
        seen.extend(s.file for s in samples)
        raise UserError("enough")

    monkeypatch.setattr(evaluate, "open_model", lambda _: SimpleNamespace(classes=data.CLASSES))
    monkeypatch.setattr(evaluate, "judge", judge)
    arguments = ["--data", str(made_data), "--model", str(tmp_path / "model.keras")]
    main([*arguments, "--split", "test"])
    assert {s.file for s in samples} <= set(seen)
    seen.clear()
    main([*arguments, "--split", "validation"])
    assert not seen
    assert "enough" in capsys.readouterr().err


def test_a_runs_model_is_judged_on_the_data_of_its_run(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(evaluate, "open_model", lambda _: SimpleNamespace(classes=data.CLASSES))
    monkeypatch.setattr(evaluate.data, "load", lambda folder: seen.append(folder) or [])
    write_json(tmp_path / "recipe.json", asdict(RECIPES["robust"]) | {"data": str(made_data)})
    for model in (tmp_path / "model.keras", tmp_path / "elsewhere" / "model.keras"):
        main(["--model", str(model)])
    assert seen == [made_data, Path("../shared/data")]


def test_cross_validation_goes_by_the_recipe(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    seen = {}

    def cross_validate(divided, recipe, output, **options):
        seen.update(folds=len(divided), epochs=recipe.epochs, output=output, **options)
        return metrics.summary(np.array([0, 1]), np.array([0, 0]), data.STUDY_CLASSES)

    monkeypatch.setattr(evaluate.crossvalidate, "cross_validate", cross_validate)
    monkeypatch.setattr(evaluate.crossvalidate, "table", lambda result: "the table")
    arguments = ["--data", str(made_data), "--cross-validate", "4", "--epochs", "3", "--classes", "five"]
    assert main([*arguments, "--output", str(tmp_path), "--cluster", "tcp://x:1"]) == 0
    assert seen["folds"] == 4
    assert (seen["epochs"], seen["output"], seen["cluster"]) == (3, tmp_path, "tcp://x:1")
    assert seen["classes"] == data.STUDY_CLASSES
    told = capsys.readouterr().out
    assert told.startswith("the table\nclass ")
    assert ["basophil", "50.00", "100.00", "66.67", "1"] in [line.split() for line in told.splitlines()]


def test_among_the_five_a_model_of_fewer_is_judged_by_its_own(
    made_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class TwoClasses:
        classes = data.CLASSES[:2]

    monkeypatch.setattr(evaluate, "open_model", lambda file: TwoClasses())
    monkeypatch.setattr(
        evaluate.sizes,
        "answer",
        lambda predictor, asked: answers(
            *[(0.9, 0.1) if s.name == "basophil" else (0.2, 0.8) for s in asked]
        ),
    )
    assert evaluate.main(["--data", str(made_data), "--classes", "five"]) == 0
    told = capsys.readouterr().out
    assert "accuracy                100.00 %" in told
    assert "left out: lymphocyte (2), monocyte (2), neutrophil (2), immature_granulocyte (2)" in told


def test_figures_cannot_be_written_over_a_folder(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--data", str(shared_data), "--json", str(tmp_path)]) == 1
    assert f"error: --json {tmp_path}: a folder; name a file" in capsys.readouterr().err
    (tmp_path / "recipe.json").touch()
    assert evaluate.main(["--data", str(shared_data), "--report", str(tmp_path)]) == 1
    assert f"error: --report {tmp_path}: a run's folder" in capsys.readouterr().err
