import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.cells import Box
from edge.errors import UserError
from training import division
from training.data import Sample, load, select


def sample(file: str, split: str = "", source: str = "pbc", name: str = "monocyte") -> Sample:
    return Sample(Path(file), file, name, source, split)


RUN = [
    sample("b", "test"),
    sample("a", "train"),
    sample("field", "train"),
    sample("field", "validation"),  # a field's second monocyte
    sample("far", "other-laboratory", "bccd"),
    sample("drawn", "train", "textbook"),
]
DATA = [replace(s, split=s.split if s.source == "bccd" else "") for s in RUN[:-1]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for s in RUN:
        s.path.write_text(f"the image {s.file}")
    division.write(tmp_path / "split.csv", RUN)
    return tmp_path / "split.csv"


def test_the_parts_and_their_order_are_those_of_the_run(file: Path) -> None:
    found = division.keep(file, [DATA[1], DATA[4], DATA[2], DATA[0], DATA[3]])
    assert found == RUN[:-1]
    named = [replace(s, split="train") if s.split == "validation" else s for s in RUN[:-1]]
    assert division.keep(file, named) == RUN[:-1]  # validation was drawn from the training part


def test_what_lies_outside_the_parts_may_come_and_go(file: Path) -> None:
    new = sample("new", "other-laboratory", "lisc")
    assert division.keep(file, [*DATA[:4], new]) == [*RUN[:4], new]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([*DATA, *(sample(f"{n}") for n in range(4))], r"4 new \(0, 1, 2, \.\.\.\)"),
        (DATA[1:], r"1 gone \(b\)"),
        ([replace(DATA[0], name="basophil"), *DATA[1:]], r"1 new \(b\); 1 gone \(b\)"),
        ([replace(RUN[0], split="train"), sample("a", "test"), *RUN[2:-1]], r"2 in another split \(b, a\)"),
    ],
)
def test_other_images_than_the_run_began_with_are_refused(
    file: Path, samples: list[Sample], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        division.keep(file, samples)


def test_another_file_is_told(tmp_path: Path) -> None:
    for text in ("file\na\n", f"file,class,source,split\n{'a' * 140_000},b,c,train\n"):
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(UserError, match=r"split\.csv: not the split of a run"):
            division.read(tmp_path / "split.csv")


def test_a_part_of_the_run_can_be_chosen(file: Path, tmp_path: Path) -> None:
    model = file.with_name("model.keras")
    assert division.select(DATA, "test", model) == [RUN[0]]
    assert division.select(DATA, "bccd", model) == [RUN[4]]
    learned = [sample("a", "test"), sample("new", "test")]
    assert division.select(learned, "test", model) == [learned[1]]
    with pytest.raises(UserError, match="'test'; there are bccd, other-laboratory, pbc"):
        division.select(DATA, "test", tmp_path / "elsewhere" / "model.keras")


def test_what_a_model_learned_from_is_known_by_its_run_or_its_card(file: Path, tmp_path: Path) -> None:
    taught = [s for s in RUN if s.split in ("train", "validation")]
    assert division.learned(RUN, file.with_name("model.keras")) == taught
    model = tmp_path / "elsewhere" / "wbc.tflite"
    assert division.learned(RUN, model) == []
    model.parent.mkdir()
    model.with_suffix(".json").write_text('{"sources": {"pbc": ""}, "recipe": {"join": "bccd"}}')
    pbc, strange = sample("x", "train"), sample("x", "train", "lisc")
    bccd = sample("y", "other-laboratory", "bccd")
    assert division.learned([pbc, strange, bccd, sample("z", "test")], model) == [pbc, bccd]


def test_copies_of_what_a_run_learned_from_are_known_by_their_content(file: Path, tmp_path: Path) -> None:
    model, copies = file.with_name("model.keras"), tmp_path / "copies"
    copies.mkdir()
    cells = []
    for s in RUN:
        (copies / f"{s.file}-again").write_text(f"the image {s.file}")
        cells.append(replace(s, path=copies / f"{s.file}-again", file=f"{s.file}-again", source="", split=""))
    assert division.learned(cells, model) == []
    known = [s for s, ours in zip(cells, RUN, strict=True) if ours.split in ("train", "validation")]
    assert division.recognised(cells, model) == known
    lines = file.read_text().splitlines()  # an earlier run kept no content
    file.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    assert division.recognised(cells, model) == []
    file.write_text(f"{lines[0]}\na,monocyte,pbc,train,,x\n")
    with pytest.raises(UserError, match="not the split of a run"):
        division.recognised(cells, model)


def test_of_an_image_that_teaches_nothing_the_list_alone_is_kept(file: Path) -> None:
    for s in RUN:
        if s.split not in ("train", "validation"):
            s.path.unlink(missing_ok=True)
    division.write(file, RUN)
    contents = [line.rpartition(",")[2] for line in file.read_text().splitlines()[1:]]
    assert [bool(content) for content in contents] == [s.split in ("train", "validation") for s in RUN]


def test_other_images_of_the_same_names_are_not_those_of_the_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model, site = file.with_name("model.keras"), tmp_path / "site"
    site.mkdir()
    others = []
    for s in RUN[1:4]:
        (site / s.file).write_text(f"another image {s.file}")
        others.append(replace(s, path=site / s.file, split="test"))
    assert division.select(others, "test", model) == others
    assert "split.csv: of other images" in capsys.readouterr().out
    assert division.learned(others, model) == []
    one_changed = [others[0], *(replace(s, split="test") for s in RUN[2:4])]
    assert division.learned(one_changed, model) == one_changed, "names decide where most are the run's"


def test_an_image_that_changed_since_the_run_began_is_refused(file: Path) -> None:
    Path("a").write_text("another image")
    with pytest.raises(UserError, match=r"1 changed \(a\)"):
        division.keep(file, DATA)


def test_a_split_wins_over_a_source_of_its_name() -> None:
    samples = [sample("a", "train", "test"), sample("b", "test", "test")]
    assert select(samples, "test") == samples[1:]
    assert select(samples[:1], "test") == samples[:1]


def test_a_cell_that_was_learned_by_its_box_is_known_without_it(made_data: Path) -> None:
    learned = [replace(s, box=Box(20, 20, 60, 60)) for s in load(made_data) if s.split == "train"]
    with pytest.raises(UserError, match="were part of the first training"):
        division.check_unseen([replace(learned[0], box=None)], division.hashes(learned))
    division.check_unseen([replace(learned[0], box=Box(60, 60, 30, 30))], division.hashes(learned))


def test_what_is_kept_of_another_file_tells_nothing(tmp_path: Path) -> None:
    """A model converted anew lies where the one before it lay; what was kept of that may lie there still."""
    model, image = tmp_path / "wbc.tflite", tmp_path / "a.png"
    model.write_bytes(b"the file")
    image.write_bytes(b"the image")
    cells = [replace(sample("a.png"), path=image)]
    met = np.array(sorted(division.hashes(cells)), np.uint64)
    for content, known in ((b"the file", cells), (b"another", [])):
        np.savez(division.kept_of(model), model=hashlib.sha256(content).hexdigest(), met=met)
        assert division.recognised(cells, model) == known
