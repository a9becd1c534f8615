from dataclasses import astuple, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Answers, Box, Image
from training import data, sizes
from training.framing import Framing
from training.predict import predict


class Whole:
    """Knows nothing of whole images."""

    classes, size, framing = data.CLASSES, 32, Framing.IMAGE

    def answer(self, views: np.ndarray) -> Answers:
        return Answers(np.full((len(views), 8), 1 / 8, np.float32), np.zeros(len(views), np.float32))

    def explain(self, views: np.ndarray, names: object) -> None:
        return None


def drawn(path: Path, diameter: int, side: int = 200) -> data.Sample:
    """An image of one cell: a dark nucleus in a tinted cytoplasm."""
    image = np.full((side, side, 3), 235, np.uint8)
    middle = (side // 2, side // 2)
    cv2.circle(image, middle, diameter // 2, (190, 170, 220), -1, cv2.LINE_AA)
    cv2.circle(image, middle, round(0.36 * diameter), (90, 40, 130), -1, cv2.LINE_AA)
    cv2.imwrite(str(path), image[..., ::-1])
    return data.Sample(path, path.name, "lymphocyte", "here", "test")


def test_cells_are_measured_as_the_locator_finds_them(tmp_path: Path) -> None:
    samples = [drawn(tmp_path / f"{d}.png", d) for d in (60, 90)]
    empty = tmp_path / "empty.png"
    cv2.imwrite(str(empty), np.full((200, 200, 3), 235, np.uint8))
    listed = data.Sample(samples[0].path, "60.png", "lymphocyte", "here", "test", box=Box(60, 65, 70, 64))
    found, shapes = sizes.measure(
        [*samples, data.Sample(empty, "empty.png", "lymphocyte", "here", "test"), listed]
    )
    assert found[0] == pytest.approx(60, rel=0.15)
    assert found[1] == pytest.approx(90, rel=0.15)
    assert np.isnan(found[2])
    assert found[3] == 70
    assert shapes[:2, 0] == pytest.approx(0.56, abs=0.03), "a round nucleus"
    assert np.isnan(shapes[2]).all()


def test_sides_are_measured_after_the_change(tmp_path: Path) -> None:
    def double(image: Image, box: Box, number: int) -> tuple[Image, Box]:
        return np.asarray(cv2.resize(image, None, fx=2, fy=2), np.uint8), Box(*(2 * v for v in astuple(box)))

    sample = drawn(tmp_path / "a.png", 60)
    listed = replace(sample, box=Box(60, 65, 70, 64))
    _, (found, told) = predict(Whole(), [sample, listed], double)
    assert found == pytest.approx(2 * sizes.measure([sample])[0][0], rel=0.1)
    assert told == 140


def test_each_source_is_a_specimen_of_its_own() -> None:
    names = [c.name for c in data.CLASSES]
    labels = ["neutrophil"] * 20 + ["lymphocyte"] * 10
    small = np.where(np.array(labels) == "neutrophil", 60.0, 47.0)
    doubted = np.zeros((20, len(names)), np.float32)
    doubted[:, names.index("lymphocyte")], doubted[:, names.index("monocyte")] = 0.45, 0.55
    sure = np.eye(len(names), dtype=np.float32)[[names.index(name) for name in labels]]
    answers = Answers(np.concatenate([sure, doubted[:10], sure, doubted[10:]]), np.zeros(80, np.float32))
    sides = np.concatenate([small, [47.0] * 10, 3 * small, [47.0] * 10])
    sources = ["here"] * 40 + ["there"] * 40
    weighed = sizes.weigh(answers, sources, data.CLASSES, sides).probabilities
    assert names[weighed[30].argmax()] == "lymphocyte"
    assert names[weighed[79].argmax()] == "monocyte", "too small there for any class: no measure of the cell"
    assert names[answers.probabilities[30].argmax()] == "monocyte", "what was given stays as it is"


def test_a_model_of_whole_images_is_asked_alone(tmp_path: Path) -> None:
    sample = drawn(tmp_path / "a.png", 60)
    assert sizes.answer(Whole(), [sample]).probabilities == pytest.approx(1 / 8)


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["file,class,subtype,source,split"]
    (tmp_path / "cells").mkdir()
    for number, (name, diameter) in enumerate([("neutrophil", 80), ("lymphocyte", 60)] * 2):
        drawn(tmp_path / "cells" / f"{number}.png", diameter)
        lines.append(f"{number}.png,{name},,pbc,train")
    (tmp_path / "cells.csv").write_text("\n".join(lines))
    assert sizes.main(["--data", str(tmp_path)]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert float(rows["neutrophil"][0]) == 0
    assert float(rows["lymphocyte"][0]) == pytest.approx(np.log(60 / 80), abs=0.1)
    assert float(rows["lymphocyte"][2]) == pytest.approx(0.56, abs=0.03)
    assert float(rows["lymphocyte"][4]) > 0.97
    assert rows["lymphocyte"][-1] == "2"
    assert sizes.main(["--data", str(tmp_path), "--split", "other"]) == 1
    assert "no image belongs" in capsys.readouterr().err
    (tmp_path / "cells.csv").write_text("\n".join(line for line in lines if "neutrophil" not in line))
    assert sizes.main(["--data", str(tmp_path)]) == 1
    assert "no neutrophil" in capsys.readouterr().err
