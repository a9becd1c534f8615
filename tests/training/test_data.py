from collections import Counter
from pathlib import Path

import pytest

from edge.errors import UserError
from training import data


def test_the_table_of_the_real_images_has_the_published_counts(shared_data: Path) -> None:
    samples = data.select(data.read_table(shared_data), "test")
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
    samples = data.read_table(shared_data)
    assert max(Counter(s.path for s in samples).values()) == 1


def test_a_split_or_a_source_is_selected_by_name(made_data: Path) -> None:
    samples = data.read_table(made_data)
    assert len(data.select(samples, "validation")) == 16
    assert len(data.select(samples, "pbc")) == len(samples)
    with pytest.raises(UserError, match="'elsewhere'; there are pbc, test, train, validation"):
        data.select(samples, "elsewhere")


def test_crops_and_labels_follow_the_table(made_data: Path) -> None:
    samples = data.read_table(made_data)[:10]
    assert data.read_crop(samples[0], 96).shape == (96, 96, 3)
    assert data.labels(samples).tolist() == [0] * 8 + [1] * 2
    assert len(data.locate_cells(samples)) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class,source,split\na.png,blast,x,train\n", "'blast' of a.png"),
        ("file,class,split\na.png,neutrophil,train\n", "column 'source'"),
        (None, "No such file"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "cells.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        data.read_table(tmp_path)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.png"):
        data.read_image(tmp_path / "broken.png")
