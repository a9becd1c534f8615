from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Box
from edge.errors import UserError
from training import data


def test_the_table_of_the_real_images_has_the_published_counts(shared_data: Path) -> None:
    samples = data.select(data.load(shared_data), "test")
    assert Counter(s.name for s in samples) == {
        "basophil": 109,
        "eosinophil": 280,
        "lymphocyte": 109,
        "monocyte": 128,
        "neutrophil": 295,
        "immature_granulocyte": 80,
        "erythroblast": 60,
        "platelet": 40,
    }


def test_no_image_is_in_two_splits(shared_data: Path) -> None:
    samples = data.load(shared_data)
    assert max(Counter(s.path for s in samples).values()) == 1


def test_doubted_labels_are_not_learned_from(shared_data: Path) -> None:
    bccd = data.select(data.load(shared_data), "bccd")
    left = Counter(s.name for s in bccd)
    left.subtract(s.name for s in data.undoubted(bccd))
    assert left == {"basophil": 0, "eosinophil": 48, "lymphocyte": 0, "monocyte": 0, "neutrophil": 0}


def test_a_doubted_file_with_another_label_is_kept() -> None:
    files = [
        row.split(",")[0] for row in (Path(data.__file__).parent / "doubted.csv").read_text().split()[1:]
    ]
    mended = [data.Sample(Path(file), file, "neutrophil", "bccd", "") for file in files]
    assert data.undoubted(mended) == mended


def test_a_split_or_a_source_is_selected_by_name(made_data: Path) -> None:
    samples = data.load(made_data)
    assert len(data.select(samples, "validation")) == 16
    assert len(data.select(samples, "pbc")) == len(samples)
    with pytest.raises(UserError, match="'elsewhere'; there are pbc, test, train, validation"):
        data.select(samples, "elsewhere")


def made_samples(films: bool = False) -> list[data.Sample]:
    names = ["neutrophil"] * 60 + ["eosinophil"] * 30 + ["basophil"] * 10
    return [
        data.Sample(Path(f"{i}.png"), f"{i}.png", name, "made", "", f"film {i // 4}" if films else "")
        for i, name in enumerate(names)
    ]


def test_the_random_split_is_70_20_10_whatever_the_order() -> None:
    samples = data.random_split(made_samples(), seed=3)
    assert Counter(s.split for s in samples) == {"train": 70, "validation": 20, "test": 10}
    assert data.random_split(made_samples()[::-1], seed=3) == samples
    assert data.random_split(made_samples(), seed=4) != samples


def test_a_fifth_of_the_training_films_validates_where_the_data_set_names_none() -> None:
    samples = [replace(s, split="train") for s in made_samples(films=True)]
    divided = data.with_validation(samples, seed=1)
    films = {split: {s.film for s in divided if s.split == split} for split in ("train", "validation")}
    assert not films["train"] & films["validation"]
    assert sum(s.split == "validation" for s in divided) == pytest.approx(20, abs=4)
    with pytest.raises(UserError, match="1 parts"):
        data.with_validation(samples[:1], seed=1)


def test_folds_share_classes_evenly() -> None:
    parts = data.grouped_folds(made_samples(), 5, seed=1)
    assert sorted(s.file for part in parts for s in part) == sorted(s.file for s in made_samples())
    for part in parts:
        assert Counter(s.name for s in part) == {"neutrophil": 12, "eosinophil": 6, "basophil": 2}


def test_a_class_with_fewer_images_than_folds_is_in_the_first_of_them() -> None:
    parts = data.grouped_folds(made_samples(), 20, seed=1)
    assert [sum(s.name == "basophil" for s in part) for part in parts] == [1] * 10 + [0] * 10


def test_no_film_is_in_two_folds() -> None:
    parts = data.grouped_folds(made_samples(films=True), 3, seed=1)
    where = [{s.film for s in part} for part in parts]
    assert not where[0] & where[1] | where[0] & where[2] | where[1] & where[2]
    assert all("basophil" in {s.name for s in part} for part in parts)


def test_cells_of_one_image_are_in_one_fold_whatever_their_classes() -> None:
    samples = [replace(s, file=f"field {i // 2}.png") for i, s in enumerate(made_samples())]
    samples[0] = replace(samples[0], name="basophil")
    where = [{s.file for s in part} for part in data.grouped_folds(samples, 5, seed=1)]
    assert sum(map(len, where)) == len(set().union(*where)) == 50


@pytest.mark.parametrize(("k", "message"), [(1, "2 or more"), (101, "100 films or images")])
def test_impossible_folds_are_told(k: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        data.grouped_folds(made_samples(), k, seed=1)


def test_what_cannot_be_trained_is_told_with_its_names(made_data: Path) -> None:
    samples = data.load(made_data)
    data.check_trainable(samples)
    with pytest.raises(UserError, match="two classes"):
        data.check_trainable(samples[:8])
    with pytest.raises(UserError, match="no training image of class basophil"):
        data.check_trainable([s for s in samples if (s.name, s.split) != ("basophil", "train")])
    samples[3].path.write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"basophil/3\.png"):
        data.check_trainable(samples)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    for name in ("broken.png", "broken.png\0"):
        with pytest.raises(UserError, match=r"broken\.png"):
            data.read_image(tmp_path / name)


def test_a_mask_among_the_cells_is_named_before_training(made_data: Path) -> None:
    samples = data.load(made_data)
    mask = np.zeros((120, 120), np.uint8)
    cv2.circle(mask, (60, 60), 30, 255, -1)
    assert cv2.imwrite(str(samples[3].path), mask)
    with pytest.raises(UserError, match=r"3\.png: as few shades as a mask"):
        data.read_photograph(samples[3].path)
    with pytest.raises(UserError, match=r"not readable as images: basophil/3\.png"):
        data.check_trainable(samples)
    kept, unreadable = data.readable(samples)
    assert unreadable == ["basophil/3.png"]
    assert kept == samples[:3] + samples[4:]


def test_a_picture_of_a_kind_that_is_not_read_is_told_with_what_to_do(made_data: Path) -> None:
    """The content of a DNG is a TIFF that OpenCV reads: a small view of it."""
    image = data.load(made_data)[0].path
    with pytest.raises(UserError, match=r"\.DNG is not read: convert it to \.png"):
        data.read_image(image.rename(image.with_suffix(".DNG")))


def test_what_is_left_out_is_told_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("monocyte", "mixt"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").touch()
    (tmp_path / "monocyte/Thumbs.db").touch()
    data.load(tmp_path)
    assert "left out: mixt: 1 images, 1 files of another kind (.db)" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 1000), (15, 200)])
def test_an_image_too_small_for_a_cell_is_unreadable(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert cv2.imwrite(str(tmp_path / "small.png"), np.full((*shape, 3), 200, np.uint8))
    with pytest.raises(UserError, match=r"small\.png: not a readable image \(.*too small to show a cell"):
        data.read_image(tmp_path / "small.png")


@pytest.mark.parametrize(
    ("box", "fits"),
    [
        (None, True),
        (Box(-10, 100, 20, 30), True),  # the border cuts it
        (Box(120, 10, 20, 20), False),
        (Box(10, 120, 20, 20), False),
        (Box(-20, 10, 20, 20), False),
        (Box(10, -20, 20, 20), False),
        (Box(10, 10, 0, 20), False),
        (Box(30, 30, -20, 20), False),
    ],
)
def test_a_box_must_show_something_of_its_image(made_data: Path, box: Box | None, fits: bool) -> None:
    samples = data.load(made_data)
    samples[3] = replace(samples[3], box=box)
    assert data.box_fits(box, 120, 120) == fits
    if fits:
        data.check_trainable(samples)
    else:
        with pytest.raises(UserError, match=r"boxes of no size or outside the image: basophil/3\.png; mend"):
            data.check_trainable(samples)


@pytest.mark.parametrize("kept", [1, 20, 300, -10])
def test_a_jpeg_that_was_cut_short_is_unreadable(made_data: Path, kept: int) -> None:
    """OpenCV alone fills up what is missing."""
    samples = data.load(made_data)
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    samples[3].path.write_bytes(whole)
    data.check_trainable(samples)
    samples[3].path.write_bytes(whole[:kept])
    with pytest.raises(UserError, match="not a readable image"):
        data.read_image(samples[3].path)
    with pytest.raises(UserError, match=r"not readable as images: basophil/3\.png"):
        data.check_trainable(samples)


def test_images_are_read_as_the_instrument_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(20, 230, (40, 50, 3), np.uint8)
    deep = (plain.astype(np.uint16) << 8) + 128
    clear = np.dstack([plain, np.full(plain.shape[:2], 255, np.uint8)])
    clear[:, :20, 3] = 0
    for name, image in (("deep.png", deep), ("clear.png", clear)):
        assert cv2.imwrite(str(tmp_path / name), image)
    assert (data.read_image(tmp_path / "deep.png") == plain[..., ::-1]).all()
    seen = data.read_image(tmp_path / "clear.png")
    assert (seen[:, :20] == 255).all()
    assert (seen[:, 20:] == plain[:, 20:, ::-1]).all()


def test_an_image_in_two_parts_is_told(made_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = data.load(made_data)
    data.check_trainable(samples)
    assert "two parts" not in capsys.readouterr().err
    test = next(s for s in samples if s.split == "test")
    twin = next(s for s in samples if s.split == "train" and s.name == test.name)
    test.path.write_bytes(twin.path.read_bytes())
    data.check_trainable(samples)
    told = capsys.readouterr().err
    assert "1 images lie in two parts" in told
    assert test.file in told
    assert "two labels" not in told


def test_an_image_with_two_labels_is_told(made_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = data.load(made_data)
    one, other = (next(s for s in samples if s.name == name) for name in ("monocyte", "neutrophil"))
    other.path.write_bytes(one.path.read_bytes())
    data.check_trainable(samples)
    told = f"1 images have two labels, as {one.file} (monocyte) and {other.file} (neutrophil)"
    assert told in capsys.readouterr().err
