import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convert.refit import OpenFile
from edge.classify import DEFAULT_MODEL, Classifier
from edge.errors import UserError
from tests.training.test_adapt import mirrored
from training import adapt, data, division, head, home

pytestmark = pytest.mark.filterwarnings("default")  # Keras' and TensorFlow's own start-up


@pytest.fixture
def file(made_data: Path, tmp_path: Path) -> Path:
    """The shipped file, as if it had learned from the made data set, with what is kept of that."""
    copy = tmp_path / "model" / "wbc.tflite"
    copy.parent.mkdir()
    shutil.copy(DEFAULT_MODEL, copy)
    card = json.loads(DEFAULT_MODEL.with_suffix(".json").read_text())
    card["recipe"]["join"] = ""
    copy.with_suffix(".json").write_text(json.dumps(card))
    assert home.main(["--model", str(copy), "--data", str(made_data)]) == 0
    return copy


def test_what_is_kept_of_a_first_training_comes_back(file: Path, made_data: Path) -> None:
    kept, met = home.read(OpenFile(file))
    samples = data.load(made_data)
    fresh = head.see_home(home.Converted(file).body, samples)
    assert kept.learned.features.shape == (32, 1, 576)
    for was, now in ((fresh.learned, kept.learned), (fresh.judged, kept.judged)):
        assert now.features == pytest.approx(was.features, abs=1e-4)
        assert np.array_equal(was.truth, now.truth)
    assert np.ptp(kept.learned.features) > 1
    assert met == division.met(samples)


def test_a_file_is_fitted_without_the_images_of_its_first_training(
    file: Path, made_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = mirrored(made_data, tmp_path / "site")
    known = ["--model", str(file), "--images", str(made_data), "--split", "train"]
    assert adapt.main([*known, "--output", str(tmp_path / "known")]) == 1
    assert "32 of 32 cells were part of the first training" in capsys.readouterr().err
    shutil.rmtree(made_data)
    output = tmp_path / "fitted"
    arguments = ["--images", str(site), "--output", str(output)]
    assert adapt.main(["--model", str(file), *arguments]) == 0
    assert "this site, by cross-validation" in capsys.readouterr().out
    figures = json.loads((output / "adapted.json").read_text())
    assert figures["site"]["after"]["accuracy"] > figures["site"]["before"]["accuracy"] + 0.2
    fitted = Classifier(output / file.name)
    assert fitted.card.facts["made_of"] == OpenFile(file).card.sha256
    assert fitted.card.facts["adapted"]["basophil"] == 4
    assert fitted.card.review_below != Classifier(file).card.review_below
    shown = [data.read_image(path) for path in sorted((site / "basophil").iterdir())]
    crops = [image[:96, :96].repeat(2, axis=0).repeat(2, axis=1) for image in shown]
    assert len(fitted.look(crops).probabilities) == 4
    again = ["--model", str(output / file.name), "--images", str(site), "--output", str(tmp_path / "again")]
    assert adapt.main(again) == 1
    assert "32 of 32 cells were part of the first training" in capsys.readouterr().err


def test_the_fitted_file_names_the_cells_of_its_site(file: Path, made_data: Path, tmp_path: Path) -> None:
    site = data.load(mirrored(made_data, tmp_path / "site"))
    model = home.Converted(file)
    fitted, figures = head.fit(model.body, site, model.home()[0])
    path = model.write(tmp_path / "fitted", fitted, figures, site)
    again = home.Converted(path)
    seen = head._see(again.body, head.find_cells(site))
    said = head._answer(again.body.head, seen)
    assert said == pytest.approx(head._answer(fitted.head, seen), abs=0.02)
    assert (said.argmax(axis=1) == seen.truth).mean() > 0.9


def test_what_does_not_belong_to_a_file_is_told(file: Path) -> None:
    kept = division.kept_of(file)
    content = kept.read_bytes()
    kept.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"wbc\.home\.npz: damaged .*training\.home --model"):
        home.read(OpenFile(file))
    kept.write_bytes(content)
    other = OpenFile(file)
    other.card = replace(other.card, sha256="of another")
    with pytest.raises(UserError, match=r"wbc\.home\.npz: of another model file"):
        home.read(other)
    kept.unlink()
    with pytest.raises(UserError, match=r"wbc\.home\.npz: No such file.*makes it of its images"):
        home.read(OpenFile(file))


def test_the_other_kind_of_file_does_not_take_its_options(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adapt.main(["--model", str(file), "--images", str(file.parent), "--data", str(file)]) == 1
    assert "learned from is kept beside it" in capsys.readouterr().err


def test_the_shipped_file_knows_its_first_training() -> None:
    kept, met = home.read(OpenFile(DEFAULT_MODEL))
    model = home.Converted(DEFAULT_MODEL)
    said = head._answer(model.body.head, kept.judged).argmax(axis=1)
    assert len(said) > 2000
    assert (said == kept.judged.truth).mean() > 0.97
    assert len(met) > 10_000
