import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import UserError
from edge.report import NOTICE
from training import data, gradcam, metrics, page, pictures, report, study
from training.recipe import Framing

FIVE = list(data.STUDY_CLASSES)


def evaluation(
    classes: list[str], samples: list[data.Sample], wrong: tuple[int, ...] = (1,)
) -> dict[str, Any]:
    """Every sample named rightly but those at the places of `wrong`, which are taken for the next class."""
    truth = [classes.index(s.name) for s in samples]
    predicted = [(t + (i in wrong)) % len(classes) for i, t in enumerate(truth)]
    matrix = metrics.confusion_matrix(truth, predicted, len(classes))
    return {
        "accuracy": metrics.accuracy(matrix),
        "balanced_accuracy": 0.875,
        "macro_f1": 0.86421,
        "intervals": {"accuracy": [0.81234, 0.98765]},
        "classes": classes,
        "confusion": matrix.tolist(),
        "per_class": json.loads(json.dumps(metrics.per_class(matrix, classes)).replace("NaN", "null")),
        "ece": 0.0123,
        "reliability": [{"confidence": 0.9, "accuracy": 0.8, "cells": 9}],
        "review_curve": [[0.0, 0.9], [0.1, 1.0]],
        "predictions": [
            {"file": s.file, "class": s.name, "predicted": classes[p], "confidence": 0.5 + i / 100}
            for i, (s, p) in enumerate(zip(samples, predicted, strict=True))
        ],
        "robustness": {"blur": [{"level": 0, "accuracy": 0.9}, {"level": 3, "accuracy": 0.7}]},
    }


def fill(folder: Path, figures: dict[str, Any]) -> Path:
    """Write what training and evaluation leave in the folder of a run, without the model."""
    folder.mkdir(parents=True)
    recipe = {"data": "nowhere", "seed": 1, "note": "<script>alert('x')</script>"}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "split.csv").write_text(
        "file,class,source,split,film\na.png,monocyte,x,test,\nb.png,basophil,x,train,\nc.png,basophil,x,train,\n"
    )
    (folder / "history.csv").write_text(
        "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,1.0,0.6,0.9\n1,0.7,0.8,0.65,0.7\n"
    )
    (folder / "evaluation.json").write_text(json.dumps(figures))
    return folder


@pytest.fixture(scope="module")
def samples() -> list[data.Sample]:
    return [
        data.Sample(Path(f"{n}{i}.png"), f"{n}{i}.png", n, "made", "test") for n in FIVE for i in range(2)
    ]


@pytest.fixture(scope="module")
def figures(samples: list[data.Sample]) -> dict[str, Any]:
    return evaluation(FIVE, samples)


@pytest.fixture
def run(tmp_path: Path, figures: dict[str, Any]) -> Path:
    """A run whose report is quickly drawn."""
    few = {k: v for k, v in figures.items() if k not in ("reliability", "review_curve", "robustness")}
    return fill(tmp_path / "my run", few)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, samples: list[data.Sample], figures: dict[str, Any]
) -> Path:
    """A run with a report that lacks nothing."""
    folder = fill(tmp_path_factory.mktemp("runs") / "my run", figures)
    report.write(folder, figures, pictures.gather(figures, samples, see, glow))
    return folder


def see(samples: Sequence[data.Sample]) -> NDArray[np.uint8]:
    """Return crops of one grey level each, which tells the sample."""
    levels = [25 * (2 * FIVE.index(s.name) + int(s.file[-5])) for s in samples]
    return np.stack([np.full((32, 32, 3), level, np.uint8) for level in levels])


def glow(crops: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float32]:
    """Say that every place speaks for the class."""
    return np.ones(crops.shape[:3], np.float32)


class Reader(HTMLParser):
    """Collects every tag, every address that a page would fetch, and the text of the cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip()


def test_the_page_holds_everything_and_fetches_nothing(whole: Path) -> None:
    text = (whole / "report.html").read_text()
    reader = Reader(text)
    assert not {"script", "link", "iframe", "object"} & reader.tags
    assert len(reader.addresses) == 9
    assert all(a.startswith("data:image/") for a in reader.addresses)
    assert not re.search(r"https?:|@import|url\(", text)
    assert NOTICE in text
    for heading in ("Recipe", "Split", "Training", "Table 3", "Confusion", "Calibration", "Review"):
        assert f"<h2>{heading}" in text
    for heading in ("Robustness", "Sample cells", "What the network looks at", "Worst mistakes"):
        assert f"<h2>{heading}" in text
    assert "81.23 to 98.77" in reader.cells
    assert "86.42 %" in reader.cells


def test_text_of_the_run_is_escaped(run: Path) -> None:
    figures = json.loads((run / "evaluation.json").read_text().replace("monocyte", "<b>&mono"))
    text = report.write(run, figures, remark="no <i>images</i>").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;mono" in text
    assert "no &lt;i&gt;images" in text


def test_table_3_stands_beside_the_study(whole: Path, figures: dict[str, Any]) -> None:
    reader = Reader((whole / "report.html").read_text())
    row = reader.cells.index("monocyte sensitivity")
    own = figures["per_class"]["monocyte"]["sensitivity"]
    assert reader.cells[row + 1 : row + 5] == [page.percent(own), "93.75", "96.25", "97.50"]
    lines = list(csv.reader((whole / "tables" / "table3.csv").read_text().splitlines()))
    assert [line[0] for line in lines] == [
        "model",
        "my run",
        "study: ResNet-50",
        "study: VGG-19",
        "study: MobileNet-V3-Small",
    ]
    assert lines[1][1] == str(100 * figures["accuracy"])
    assert lines[4][1:5] == ["98.86", "100", "100", "100"]
    assert len(lines[0]) == 2 + 5 * 3


def test_the_studys_figures_agree_with_each_other() -> None:
    """F1 of each row follows from its P and S, up to the study's rounding."""
    for _, (_, rows) in study.STUDY.items():
        for precision, sensitivity, f1 in rows:
            assert f1 == pytest.approx(2 * precision * sensitivity / (precision + sensitivity), abs=0.025)
    mean = np.mean([row[2] for row in study.STUDY["MobileNet-V3-Small"][1]])
    assert mean == pytest.approx(97.92, abs=0.01)


def test_other_classes_stand_alone(tmp_path: Path, samples: list[data.Sample]) -> None:
    names = [c.name for c in data.CLASSES]
    text = report.write(tmp_path, evaluation(names, samples)).read_text()
    assert "ResNet-50" not in text
    assert "only beside a run that was judged on the same five" in text


def test_figures_and_tables_are_files_too(whole: Path) -> None:
    names = {p.stem for p in (whole / "figures").glob("*.png")}
    assert names == {p.stem for p in (whole / "figures").glob("*.svg")}
    assert names == {
        "curves", "confusion", "split", "cells", "grad_cam", "mistakes", "reliability", "review_curve",
        "robustness",
    }  # fmt: skip
    tables = {p.name: p.read_text().splitlines() for p in (whole / "tables").iterdir()}
    assert tables["split.csv"] == ["class,train,test", "basophil,2,0", "monocyte,0,1", "all,2,1"]
    assert tables["confusion.csv"][1] == "basophil,1,1,0,0,0"
    assert tables["robustness.csv"][2] == 'blur,"blur disc, % of the cell\'s width",3,0.7'


def test_the_same_run_gives_the_same_bytes(
    whole: Path, tmp_path: Path, samples: list[data.Sample], figures: dict[str, Any]
) -> None:
    again = fill(tmp_path / whole.name, figures)
    report.write(again, figures, pictures.gather(figures, samples, see, glow))
    files = {p.relative_to(whole): p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    assert len(files) > 20
    assert {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()} == files


def test_the_pictures_are_the_worst_mistakes_and_an_even_choice(
    samples: list[data.Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_SAMPLES", 1)
    monkeypatch.setattr(pictures, "_RIGHT", 5)
    figures = evaluation(FIVE, samples, wrong=(1, 4, 8))
    shown = pictures.gather(figures, samples, see)
    assert {name: len(row) for name, row in shown.cells.items()} == dict.fromkeys(FIVE, 1)
    assert [p.truth for p in shown.explained] == FIVE
    assert all(p.truth == p.predicted for p in shown.explained)
    assert [p.confidence for p in shown.mistakes] == [0.58, 0.54, 0.51]
    assert shown.mistakes[0].caption == "neutrophil \N{RIGHTWARDS ARROW}\nbasophil 0.58"
    assert np.array_equal(shown.mistakes[0].crop, see([samples[8]])[0])
    assert shown.mistakes[0].overlay is None


def test_cells_that_the_data_set_lacks_are_told(samples: list[data.Sample]) -> None:
    figures = evaluation(FIVE, samples)
    with pytest.raises(UserError, match="does not list it"):
        pictures.gather(figures, [replace(s, file="other.png") for s in samples], see)


def test_the_command_says_what_is_missing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    text = (run / "report.html").read_text()
    assert "are left out" in text
    assert "model.keras" in text
    assert "Worst mistakes" not in text


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("evaluation.json", "{", "not JSON"),
        ("recipe.json", "[]", "object of settings"),
        ("history.csv", "epoch,loss\n0,1\n", "accuracy"),
        ("history.csv", "epoch,accuracy,loss,val_accuracy,val_loss\n0,x,1,1,1\n", "number"),
        ("split.csv", "file\na.png\n", "not the split of a run"),
    ],
)
def test_a_broken_file_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, told: str
) -> None:
    (run / file).write_text(content)
    assert report.main([str(run)]) == 1
    error = capsys.readouterr().err
    assert file in error
    assert told in error


def test_a_run_without_history_split_and_recipe_has_a_shorter_report(run: Path) -> None:
    figures = json.loads((run / "evaluation.json").read_text())
    for name in ("history.csv", "split.csv", "recipe.json"):
        (run / name).unlink()
    text = report.write(run, figures).read_text()
    assert "<h2>Training" not in text
    assert "<h2>Confusion" in text


@pytest.mark.filterwarnings("default")  # Keras' own start-up
def test_a_network_explains_its_answers(samples: list[data.Sample], figures: dict[str, Any]) -> None:
    """The network has more outputs than the evaluation has classes, in another order."""
    outputs = ["platelet", *reversed(FIVE)]

    def explain(crops: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float32]:
        return gradcam.heat_maps(tiny_network(len(outputs)), crops, [outputs.index(n) for n in names])

    shown = pictures.gather(figures, samples, noisy, explain)
    (mistake,) = shown.mistakes
    assert mistake.predicted == "eosinophil"
    place = [outputs.index("eosinophil")]
    crop = noisy([samples[1]])
    heat = gradcam.heat_maps(tiny_network(len(outputs)), crop, place)[0]
    assert mistake.overlay is not None
    assert np.array_equal(mistake.crop, crop[0])
    assert np.array_equal(mistake.overlay, gradcam.overlay(crop[0], heat))
    assert all(p.overlay is not None for p in shown.explained)


class Integers:
    """A model file that draws no maps."""

    classes = data.CLASSES
    size = 48
    framing = Framing.IMAGE

    def answer(self, views: NDArray[np.uint8]) -> Any:
        raise AssertionError("the report asks for no answers: the evaluation has them")

    def explain(self, views: NDArray[np.uint8], names: Sequence[str]) -> None:
        return None


def test_the_crops_are_what_the_model_sees(made_data: Path) -> None:
    table = data.select(data.load(made_data), "test")
    shown = report.look(Integers(), table, evaluation([c.name for c in data.CLASSES], table))
    assert "grad_cam" not in report.draw(evaluation([c.name for c in data.CLASSES], table), {}, {}, shown)
    (mistake,) = shown.mistakes
    whole = cv2.resize(data.read_image(table[1].path), (48, 48), interpolation=cv2.INTER_AREA)
    assert np.array_equal(mistake.crop, whole)
    assert mistake.overlay is None


def noisy(samples: Sequence[data.Sample]) -> NDArray[np.uint8]:
    """Return a crop of noise for each sample, always the same for the same sample."""
    seeds = [list(s.file.encode()) for s in samples]
    return np.stack([np.random.default_rng(s).integers(0, 256, (32, 32, 3), np.uint8) for s in seeds])


def tiny_network(classes: int) -> keras.Model:
    """A network in the shape of a finished one: probabilities and embedding of pooled maps."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(6, 5, strides=4, activation="relu")(image)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    answer = keras.layers.Dense(classes, activation="softmax")(pooled)
    return keras.Model(image, [answer, keras.layers.Dense(2)(pooled)])


def test_drawn_cells_are_no_images_of_a_split(tmp_path: Path) -> None:
    rows = [
        "file,class,source,split",
        "a,monocyte,pbc,train",
        "b,monocyte,textbook,train",
        "c,monocyte,pbc,test",
    ]
    (tmp_path / "split.csv").write_text("\n".join(rows))
    assert report.read_split(tmp_path / "split.csv") == {
        part: {"monocyte": 1} for part in ("train", "drawn by the run", "test")
    }
