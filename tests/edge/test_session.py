import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from benchmarks.photographs import again
from edge.cells import Box, CellClass, Detection, Frame, Image, Role, Skip
from edge.classify import Card, Classifier
from edge.errors import UserError
from edge.gates import Gate, Verdict
from edge.localise import Locator
from edge.pipeline import Step, detect
from edge.session import Session
from edge.store import Store
from edge.track import Tracked
from tests.edge.test_fields import at, picture, turned
from tests.edge.test_track import detection, frame
from training.data import load, read_image

CARD = Card(
    name="made",
    sha256="c" * 64,
    size=8,
    classes=(
        CellClass("neutrophil", Role.COUNTED),
        CellClass("erythroblast", Role.PER_100),
        CellClass("platelet", Role.REJECTED),
    ),
    review_below=0.5,
    familiar=None,
    heat_side=None,
    facts={},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "counts.sqlite") as opened:
        yield opened


def begin(store: Store, target: int | None = None) -> Session:
    return Session(store, CARD, "S-1", "images", moving=False, review_below=0.5, target=target)


def image_file(image: np.ndarray, name: str) -> Frame:
    return Frame(0, 0.0, image, name, f"{zlib.crc32(image.tobytes()):016x}")


def step(session: Session, name: str, *classes: int) -> Step:
    """One image with a cell of each of the classes (by index)."""
    frame = image_file(np.zeros((20, 20, 3), np.uint8), name)
    crop = np.zeros((8, 8, 3), np.uint8)
    boxes = [Box(1 + 10 * i, 2, 8, 8) for i in range(len(classes))]
    found = tuple(
        Detection(box, np.eye(3, dtype=np.float32)[c], crop, 1.0, 0.0, True)
        for box, c in zip(boxes, classes, strict=True)
    )
    return Step(frame, found, session.counter.update(frame, found))


def test_the_result_is_the_contract(store: Store) -> None:
    session = begin(store)
    session.take(step(session, "a.png", 0, 0, 1))
    session.take(Skip(1, "b.png", "truncated"))
    session.take(step(session, "c.png", 2, 0, 0))
    session.settle()
    result = session.result(complete=True)
    assert result["specimen"] == "S-1"
    assert result["model"]["sha256"] == CARD.sha256
    assert (result["frames"], result["fields"], result["total"]) == (2, 2, 4)
    assert result["counts"] == {"neutrophil": 4, "erythroblast": 1, "platelet": 1}
    assert result["per_100"] == {"erythroblast": 25.0}
    assert result["differential"] == {
        "neutrophil": {"count": 4, "percent": 100.0, "low": pytest.approx(39.76, abs=0.01), "high": 100.0}
    }
    assert result["skipped"] == [{"source": "b.png", "reason": "truncated"}]
    assert result["images"] == [
        {"source": "a.png", "again": False, "cells": [1, 2, 3]},
        {"source": "c.png", "again": False, "cells": [4, 5, 6]},
    ]
    assert session.state("counting")["empty"] == 0
    bare = step(session, "d.png")
    session.take(replace(bare, frame=image_file(np.ones((20, 20, 3), np.uint8), "d.png")))
    assert session.result(complete=True)["images"][2]["cells"] == []
    assert session.state("counting")["empty"] == 1
    assert result["cells"][2] == {
        "number": 3,
        "class": "erythroblast",
        "named": False,
        "network": "erythroblast",
        "why": [],
        "confidence": 1.0,
        "probabilities": {"neutrophil": 0.0, "erythroblast": 1.0, "platelet": 0.0},
        "strangeness": 0.0,
        "source": "a.png",
        "box": [21, 2, 8, 8],
        "slide": [25, 6],
        "review": False,
    }


def test_a_cell_that_was_returned_is_on_disk(store: Store, tmp_path: Path) -> None:
    session = begin(store)
    shown = session.take(step(session, "a.png", 0))
    with Store(tmp_path / "counts.sqlite") as other:
        assert len(list(other._cells(1))) == len(shown) == 1


def test_frames_that_brought_nothing_are_saved_before_the_count_ends(store: Store) -> None:
    def moving() -> Session:
        return Session(store, CARD, "S-1", "video", moving=True, review_below=0.5, target=None)

    session = moving()
    picture = Frame(0, 0.0, np.zeros((20, 20, 3), np.uint8))
    for _ in range(3):
        session.take(Step(picture, (), Tracked((), (), False, None), Verdict(Gate.FOCUS)))
    session.save()
    again = moving()
    assert (again.frames, again.result(complete=False)["gated"]) == (3, {"out of focus": 3})


def test_a_resumed_count_skips_what_was_read_and_goes_on(store: Store) -> None:
    first = begin(store)
    first.take(step(first, "a.png", 0))
    first.take(Skip(1, "b.png", "truncated"))
    again = begin(store)
    assert not again.wants(image_file(np.zeros((20, 20, 3), np.uint8), "a.png"))
    assert again.wants(image_file(np.ones((20, 20, 3), np.uint8), "a.png"))  # of another folder
    again.take(Skip(1, "b.png", "truncated"))
    again.take(step(again, "c.png", 0))
    assert [c["number"] for c in again.result(complete=True)["cells"]] == [1, 2]
    assert again.result(complete=True)["frames"] == 2
    assert again.skipped.total() == 1


def test_an_image_is_known_in_another_light_too(store: Store) -> None:
    """As another flat field, or another rule of what is no picture, shows it."""
    first = begin(store)
    first.take(step(first, "a.png", 0))
    stored = image_file(np.zeros((20, 20, 3), np.uint8), "a.png")
    assert not begin(store).wants(replace(stored, image=stored.image + 9))


def test_a_still_cell_lies_where_its_best_photograph_shows_it_in_the_file(store: Store) -> None:
    def take(session: Session, name: str, degrees: float, sharpness: float) -> None:
        view, move = turned(picture(1), degrees, 5, 5)
        seen = replace(at(move, 150, 100), probabilities=np.eye(3, dtype=np.float32)[0], sharpness=sharpness)
        framed = replace(image_file(view, name), corner=(300, 90))
        session.take(Step(framed, (seen,), session.counter.update(framed, (seen,))))

    session = begin(store)
    take(session, "a.png", 0, 1.0)
    (first,) = session.cells
    take(session, "b.png", 20, 100.0)
    for cells in (session.cells, begin(store).cells):
        (cell,) = cells
        assert (cell.source, cell.slide) == ("b.png", cell.box.centre)
        assert cell.slide != first.slide == first.box.centre == (455, 195)
    session.name_cell(1, "platelet", 0)
    take(session, "c.png", 40, 900.0)
    assert session.cells[0].slide == begin(store).cells[0].slide == cell.slide


def test_a_framed_image_that_is_read_on_shows_the_cells_of_before(store: Store) -> None:
    """Its cells are stored in the file's pixels; a photograph of them is laid on the picture."""
    view, move = turned(picture(1), 0, 0, 0)
    framed = replace(image_file(view, "a.png"), corner=(300, 90))
    found = tuple(replace(at(move, x, 100), probabilities=np.eye(3, dtype=np.float32)[0]) for x in (100, 220))
    target = begin(store, target=1)
    target.take(Step(framed, found, target.counter.update(framed, found)))
    again = begin(store)
    again.take(Step(framed, found, again.counter.update(framed, found)))
    assert [cell.box.centre for cell in again.cells] == [(400, 190), (520, 190)]
    later = begin(store)
    assert not later.wants(framed)
    view, move = turned(picture(1), 50, 5, 5)
    turned_found = tuple(replace(found[0], box=at(move, x, 100).box) for x in (100, 220))
    assert later.counter.update(image_file(view, "b.png"), turned_found).numbers == (1, 2)


def test_a_result_names_the_images_read_whatever_the_order_and_the_version(store: Store) -> None:
    first = begin(store)
    for name in ("field 10.png", "field 2.png"):
        first.take(step(first, name))
    store._db.execute(
        "INSERT INTO field (specimen, name, again) VALUES (1, 'early 1.png', 0)"
    )  # by name alone, as it once was
    images = begin(store).result(complete=True)["images"]
    assert [image["source"] for image in images] == ["early 1.png", "field 10.png", "field 2.png"]
    assert first.result(complete=True)["images"] == images[1:]


def test_a_copy_of_an_image_of_an_earlier_run_adds_nothing(store: Store) -> None:
    first = begin(store)
    first.take(step(first, "a.png", 0))
    again = begin(store)
    assert not again.wants(image_file(np.zeros((20, 20, 3), np.uint8), "copy.png"))
    for session in (again, begin(store)):
        found = session.result(complete=True)
        assert (found["frames"], found["fields"], found["total"]) == (2, 1, 1)
        assert found["images"][1] == {"source": "copy.png", "again": True, "cells": [1]}
        assert session.state("counting")["empty"] == 0
    assert again.wants(image_file(np.ones((20, 20, 3), np.uint8), "b.png"))


def test_another_damaged_image_of_the_same_name_is_told(store: Store) -> None:
    begin(store).take(Skip(0, "z.jpg", "not an image"))
    again = begin(store)
    again.take(Skip(0, "z.jpg", "cut short"))
    again.take(Skip(0, "z.jpg", "not an image"))
    assert [s["reason"] for s in again.result(complete=True)["skipped"]] == ["not an image", "cut short"]


def test_a_result_tells_what_the_network_alone_says(store: Store) -> None:
    session = begin(store)
    session.take(step(session, "a.png", 0))
    session.cells = [replace(session.cells[0], network=np.eye(3, dtype=np.float32)[1])]
    (cell,) = session.result(complete=True)["cells"]
    assert (cell["class"], cell["network"]) == ("neutrophil", "erythroblast")


def test_interruptions_of_a_later_run_are_skips_of_their_own(store: Store) -> None:
    for run in (1, 2):
        session = begin(store)
        session.take(Skip(0, 0, "the stream ended"))
        assert session.skipped.total() == run


def test_a_frame_that_was_not_stored_does_not_spoil_the_specimen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_moving() -> Session:
        return Session(store, CARD, "S-1", "video", moving=True, review_below=0.5, target=None)

    rng = np.random.default_rng(0)
    image = np.asarray(cv2.GaussianBlur(rng.integers(0, 255, (240, 320, 3), np.uint8), (0, 0), 2), np.uint8)

    def show(session: Session, *places: int) -> None:
        found = tuple(
            Detection(Box(x, 100, 20, 20), np.eye(3, dtype=np.float32)[0], image[:8, :8], 1.0, 0.0, True)
            for x in places
        )
        frame = Frame(0, 0.0, image)
        session.take(Step(frame, found, session.counter.update(frame, found)))

    session = begin_moving()
    for _ in range(28):
        show(session, 50)
    for _ in range(3):
        show(session, 50, 150)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(Store, "add", Mock(side_effect=UserError("database or disk is full")))
        with pytest.raises(UserError):
            show(session, 50, 150)
    session.settle()
    assert session.cells == begin_moving().cells == []
    assert session.result(complete=False)["images"] is None
    again = begin_moving()
    for _ in range(32):
        show(again, 50, 150)
    assert [cell.number for cell in begin_moving().cells] == [1, 2]


def test_a_pause_that_could_not_be_stored_does_not_spoil_the_specimen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted at the end has no number of a cell that is not on disk."""

    def begin_moving() -> Session:
        return Session(store, CARD, "S-1", "video", moving=True, review_below=0.8, target=None)

    session = begin_moving()
    both = [replace(detection(x, 100), probabilities=np.eye(3, dtype=np.float32)[0]) for x in (60, 160)]
    for index, found in enumerate([both[:1]] * 5 + [both]):
        shown = frame(index, 0, 0)
        session.take(Step(shown, tuple(found), session.counter.update(shown, found)))
    with monkeypatch.context() as full_disk:
        full_disk.setattr(Store, "add", Mock(side_effect=UserError("database or disk is full")))
        with pytest.raises(UserError):
            session.settle(paused=True)
    session.settle()
    assert session.cells == begin_moving().cells == []


@pytest.mark.parametrize(
    "damage", ["class = 'blast'", "probabilities = '[1]'", "probabilities = '[0, 0, 0, 1]'"]
)
def test_a_cell_of_no_class_of_the_model_is_damage(store: Store, damage: str) -> None:
    session = begin(store)
    session.take(step(session, "a.png", 0))
    store._db.execute(f"UPDATE cell SET {damage}")
    with pytest.raises(UserError, match="what is stored of this specimen is damaged"):
        begin(store)


def test_the_target_counts_counted_classes_alone_and_stops_exactly(store: Store) -> None:
    session = begin(store, target=3)
    session.take(step(session, "a.png", 0, 1, 0))
    assert not session.complete
    session.take(step(session, "b.png", 2, 0, 0, 0))
    assert session.complete
    assert session.total == 3
    assert session.settle() == ()
    assert len(session.result(complete=True)["cells"]) == 5


def test_what_the_target_left_over_is_counted_by_whoever_goes_on(store: Store) -> None:
    first = begin(store, target=1)
    image = np.zeros((20, 20, 3), np.uint8)
    frame = image_file(image, "a.png")
    crop = np.zeros((8, 8, 3), np.uint8)
    found = tuple(
        Detection(Box(x, 2, 8, 8), np.eye(3, dtype=np.float32)[0], crop, 1.0, 0.0, True) for x in (1, 10)
    )
    pale = Verdict(None, (Gate.PALE,))
    first.take(Step(frame, found, first.counter.update(frame, found), pale))
    assert first.total == 1
    again = begin(store)
    assert again.wants(frame)
    again.take(Step(frame, found, again.counter.update(frame, found), pale))
    assert again.frames == 1
    assert again.result(complete=True)["warned"] == {"stain too pale": 1}, "one image, warned of once"
    assert [c.box.x for c in again.cells] == [1, 10]
    assert not begin(store).wants(frame)


@pytest.mark.parametrize(("target", "needed"), [(None, 100), (50, 50), (200, 200)])
def test_fewer_than_the_target_or_100_cells_are_not_final(
    store: Store, target: int | None, needed: int
) -> None:
    session = begin(store, target=target)
    assert session.needed == needed
    assert session.state("paused")["unsettled"] == [f"fewer than the {needed} cells of a final result"]
    session.take(step(session, "a.png", 0, 0))
    session.cells = [replace(cell, review=cell.number == 2) for cell in session.cells]
    assert [cell.number for cell in session.doubtful] == [2]
    assert session.unsettled[1:] == ("1 to review",)


def test_a_cell_that_a_person_named_needs_no_review_and_is_kept_so(store: Store) -> None:
    session = begin(store, target=2)
    session.take(step(session, "a.png", 0, 0))
    session.cells = [replace(cell, review=True) for cell in session.cells]
    version = session.map_version
    session.name_cell(2, "platelet", 0)
    with pytest.raises(UserError, match="it was named platelet meanwhile"):
        session.name_cell(2, "neutrophil", 0)
    session.name_cell(2, "erythroblast", 1)
    session.name_cell(1, "neutrophil", 0)
    assert session.doubtful == ()
    assert (session.total, session.complete) == (1, False)
    assert session.state("paused")["namings"] == 3
    assert session.map_version == version == 0, "there is no map"
    result = begin(store).result(complete=True)
    assert result["counts"] == {"neutrophil": 1, "erythroblast": 1, "platelet": 0}
    assert (result["namings"], result["review"]) == (3, 0)
    second = result["cells"][1]
    assert (second["class"], second["named"], second["network"]) == ("erythroblast", True, "neutrophil")
    assert second["probabilities"]["neutrophil"] == second["confidence"] == 1


@pytest.mark.parametrize(
    ("number", "name", "why"),
    [
        (0, "platelet", "no cell 0"),
        (2, "platelet", "no cell 2 among the 1 counted"),
        (-1, "platelet", "no cell -1"),
        (1, "blast", "'blast' is no class"),
    ],
)
def test_what_is_no_cell_or_no_class_is_not_named(store: Store, number: int, name: str, why: str) -> None:
    session = begin(store)
    session.take(step(session, "a.png", 0))
    with pytest.raises(UserError, match=why):
        session.name_cell(number, name, 0)
    assert not session.cells[0].namings


def test_a_name_that_cannot_be_stored_is_not_shown(store: Store) -> None:
    session = begin(store)
    session.take(step(session, "a.png", 0))
    store.close()
    with pytest.raises(UserError):
        session.name_cell(1, "platelet", 0)
    assert session.cells[0].name == "neutrophil"


def test_gated_frames_are_counted_by_reason_and_resumed(store: Store) -> None:
    session = begin(store)
    session.take(replace(step(session, "a.png", 0), verdict=Verdict(None, (Gate.PALE,))))
    refused = Skip(1, "b.png", "out of focus: turn the fine focus", Gate.FOCUS)
    session.take(refused)
    session.take(refused)
    again = begin(store)
    again.take(refused)
    again.take(Skip(2, "c.png", "out of focus: turn the fine focus", Gate.FOCUS))
    again.take(Skip(3, "d.png", "truncated"))
    result = again.result(complete=True)
    assert result["gated"] == again.state("counting")["gated"] == {"out of focus": 2}
    assert result["warned"] == again.state("counting")["warned"] == {"stain too pale": 1}
    assert begin(store).result(complete=True)["gated"] == {"out of focus": 2}


def test_a_resumed_specimen_has_its_map_again(store: Store) -> None:
    def begin_moving() -> Session:
        return Session(store, CARD, "S-1", "video", moving=True, review_below=0.5, target=None, um_per_px=0.1)

    rng = np.random.default_rng(0)
    slide = np.asarray(cv2.GaussianBlur(rng.integers(0, 255, (480, 1300, 3), np.uint8), (0, 0), 4), np.uint8)
    session = begin_moving()
    assert (session.map_version, session.map_view(), session.result(True)["map"]) == (0, None, None)
    for index, x in enumerate(range(0, 660, 100)):
        frame = Frame(index, 0.0, np.ascontiguousarray(slide[:, x : x + 640]))
        verdict = Verdict(Gate.FOCUS) if x == 600 else Verdict(None, (Gate.SPARSE,) if x > 300 else ())
        session.take(Step(frame, (), session.counter.update(frame, ()), verdict))
    session.settle()
    seen = session.result(True)["map"]
    assert seen == session.result(True)["map"]
    # To 500 + 640 pixels: nothing was painted of the refused frame.
    assert seen["mm2"] == pytest.approx(1140 * 480 * 1e-8, rel=0.02)
    assert 0.3 < seen["monolayer_share"] < 0.4
    before, after = session.map_view(), begin_moving().map_view()
    assert before is not None
    assert after is not None
    assert np.array_equal(before.image, after.image)
    assert begin_moving().map_version > 0


def test_a_map_begun_anew_has_nothing_of_what_was_seen_before(store: Store) -> None:
    def begin_moving() -> Session:
        return Session(store, CARD, "S-1", "video", moving=True, review_below=0.5, target=None, um_per_px=0.1)

    def show(session: Session, image: np.ndarray) -> None:
        frame = Frame(0, 0.0, np.ascontiguousarray(image))
        session.take(Step(frame, (), session.counter.update(frame, ())))

    rng = np.random.default_rng(0)
    hand, slide = (cv2.GaussianBlur(rng.integers(0, 255, (480, 1300, 3), np.uint8), (0, 0), 4) for _ in "ab")
    session = begin_moving()
    for x in range(0, 660, 100):
        show(session, hand[:, x : x + 640])
    session.save()
    for _ in range(16):
        show(session, slide[:, :640])
    session.settle()
    for either in (session, begin_moving()):
        assert either.result(True)["map"]["fields"] == 1
        assert either.result(True)["map"]["mm2"] == pytest.approx(640 * 480 * 1e-8, rel=0.02)


def test_the_state_of_the_page(store: Store) -> None:
    session = begin(store, target=100)
    empty = session.state("starting")
    assert empty["classes"][0] == {
        "name": "neutrophil",
        "role": "counted",
        "count": 0,
        "percent": None,
        "low": None,
        "high": None,
        "per_100": None,
    }
    session.take(step(session, "a.png", 0, 0, 1))
    state = session.state("counting", fps=12.34)
    assert (state["phase"], state["total"], state["target"], state["fps"]) == ("counting", 2, 100, 12.3)
    assert state["classes"][1]["per_100"] == 50
    assert state["classes"][0]["percent"] == 100


def test_a_cell_decided_again_is_stored_with_the_picture_of_the_better_frame(
    store: Store, tmp_path: Path
) -> None:
    session = begin(store)
    first, second = (step(session, name, 0, 0) for name in ("a.png", "b.png"))
    session.take(first)
    session.name_cell(2, "neutrophil", 0)
    later = [
        replace(
            cell,
            name="erythroblast",
            source="b.png",
            box=Box(0, 0, 9, 9),
            slide=(0, 0),
            review=True,
            crop=b"b",
        )
        for cell in (*first.tracked.cells, replace(first.tracked.cells[0], number=9))
    ]
    assert session.state("counting")["revisions"] == 0
    session.take(replace(second, tracked=replace(second.tracked, cells=(), revised=tuple(later))))
    assert session.state("counting")["revisions"] == 1
    with Store(tmp_path / "counts.sqlite") as other:
        for one, two in (session.cells, tuple(other._cells(1))):
            assert (one.name, one.source, one.review) == ("erythroblast", "b.png", True)
            assert (one.box, one.crop, one.slide) == (Box(0, 0, 9, 9), b"b", (4.5, 4.5))
            assert (two.name, two.namings, two.review) == ("neutrophil", 1, False)  # a person said so
            assert two.source == "a.png"


def test_a_cell_decided_again_keeps_its_picture_where_no_frame_was_better(store: Store) -> None:
    session = begin(store)
    first = step(session, "a.png", 0)
    session.take(first)
    kept = session.cells[0].crop
    later = replace(first.tracked.cells[0], name="erythroblast", crop=b"small")  # as `edge.track` has it then
    second = step(session, "b.png", 0)
    session.take(replace(second, tracked=replace(second.tracked, cells=(), revised=(later,))))
    assert (session.cells[0].name, session.cells[0].crop) == ("erythroblast", kept)


def test_a_copy_of_an_image_of_the_same_run_adds_nothing(store: Store) -> None:
    session = begin(store)
    session.take(step(session, "a.png", 0))
    copy = image_file(np.zeros((20, 20, 3), np.uint8), "b.png")
    assert not session.wants(copy)
    assert session.total == 1
    assert [image["again"] for image in session.result(complete=True)["images"]] == [False, True]


def test_a_photograph_of_cells_counted_on_another_tells_them_after_a_restart(store: Store) -> None:
    def photograph(session: Session, name: str, degrees: float) -> Step:
        view, move = turned(picture(1), degrees, 5, 5)
        found = (replace(at(move, 160, 120), probabilities=np.eye(3, dtype=np.float32)[0]),)
        frame = image_file(view, name)
        return Step(frame, found, session.counter.update(frame, found))

    session = begin(store)
    for name, degrees in (("a.png", 0), ("b.png", 50)):
        session.take(photograph(session, name, degrees))
    resumed = begin(store)
    for either in (session, resumed):
        assert [image["again"] for image in either.result(complete=True)["images"]] == [False, True]
    assert not resumed.wants(image_file(turned(picture(1), 50, 5, 5)[0], "b.png"))  # a.png lies too far back
    assert photograph(resumed, "c.png", 100).tracked.numbers == (1,)


def test_other_photographs_of_counted_cells_are_known_after_a_restart_though_the_first_do_not_come(
    shared_data: Path, store: Store
) -> None:
    """Of these the stored pictures of the cells tell."""
    classifier, locator, rng = Classifier(), Locator(), np.random.default_rng(2)
    listed = [s for s in load(shared_data) if s.source == "pbc" and s.split == "validation"]
    samples = [next(s for s in listed if s.name == name) for name in ("neutrophil", "lymphocyte", "monocyte")]
    images = [read_image(s.path) for s in samples]

    def count(pictures: list[Image], folder: str) -> int:
        card, review = classifier.card, classifier.card.review_below
        session = Session(store, card, "S", "images", moving=False, review_below=review, target=None)
        for number, image in enumerate(pictures):
            frame = image_file(image, f"{folder}/{number}.png")
            found = detect(frame, locator, classifier)
            session.take(Step(frame, tuple(found), session.counter.update(frame, found)))
        return session.total

    assert count(images, "one") == 3
    assert count([again(image, rng) for image in images], "two") == 3


def test_images_of_one_name_and_equal_boxes_are_told_apart_after_a_restart(store: Store) -> None:
    session = begin(store)
    session.take(step(session, "1.png", 0))
    resumed = begin(store)
    other = image_file(np.full((20, 20, 3), 9, np.uint8), "1.png")
    assert resumed.wants(other)
    found = step(resumed, "1.png", 0).detections
    assert resumed.counter.update(other, found).numbers[0] != 1


@pytest.mark.parametrize("resumed", [False, True])
def test_a_sure_cell_too_pale_for_a_nucleus_goes_to_review_at_the_end_too(
    store: Store, resumed: bool
) -> None:
    """The last cells tell how dark nuclei are; of a picture in a round view, whose boxes are its source's."""

    def seen(number: int, nucleus: int) -> Detection:
        crop = np.full((48, 48, 3), 220, np.uint8)
        crop[16:32, 16:32] = nucleus
        return Detection(Box(40 * number, 5, 8, 8), np.eye(3, dtype=np.float32)[0], crop, 1.0, 0.0, True)

    def take(session: Session, name: str, *found: Detection) -> None:
        frame = Frame(0, 0.0, np.zeros((20, 400, 3), np.uint8), name, corner=(7, 9))
        session.take(Step(frame, found, session.counter.update(frame, found)))

    session = begin(store)
    take(session, "a.png", seen(0, 150), seen(1, 40))
    if resumed:
        session = begin(store)
    take(session, "b.png", *(seen(i, 30 + i) for i in range(8)))
    before = list(session.cells)
    assert session.doubtful == ()
    session.settle()
    assert [cell.number for cell in session.doubtful] == [1]
    assert [cell.box for cell in session.cells] == [cell.box for cell in before]
    assert [cell.number for cell in begin(store).doubtful] == [1]


@pytest.mark.parametrize("named", [False, True])
def test_where_a_glimpsed_cell_lies_outlasts_its_name_and_a_restart(store: Store, named: bool) -> None:
    """See test_track.test_a_glimpsed_cell_is_where_it_is_seen_better."""

    def resume() -> Session:
        return Session(store, CARD, "S-1", "video", moving=True, review_below=0.8, target=None)

    def show(index: int, place: tuple[int, int], *found: Detection) -> None:
        seen = tuple(replace(d, probabilities=np.eye(3, dtype=np.float32)[0]) for d in found)
        shown = frame(index, *place)
        session.take(Step(shown, seen, session.counter.update(shown, seen)))

    session = resume()
    for index in range(2):
        show(index, (0, 100), detection(150, 215))
    away = [(60 * i, 100) for i in range(1, 5)]
    around = [(240, y) for y in range(140, 300, 30)] + [(240 - 60 * i, 290) for i in range(5)]
    for index, place in enumerate(away + around, 2):
        show(index, place)
    if named:
        session.name_cell(1, "erythroblast", 0)
    for index, y in enumerate([331, 331, 331, 340, 340], 20):
        show(index, (0, 290), detection(150, y - 290))
    session.settle()
    lies = session.cells[0].slide
    session = resume()
    assert session.cells[0].slide == lies
    assert session.cells[0].name == ("erythroblast" if named else "neutrophil")
    for index in range(40, 80):
        show(index, (0, 290), detection(150, 50))
    session.settle()
    assert len(session.cells) == 1


def test_a_cell_that_is_decided_twice_in_one_frame_is_as_it_was_decided_last(store: Store) -> None:
    session = begin(store)
    first = step(session, "a.png", 0)
    (cell,) = first.tracked.cells
    again = replace(cell, name="erythroblast", source="b.png", crop=b"better")
    session.take(replace(first, tracked=replace(first.tracked, revised=(again,))))
    assert [(c.name, c.crop) for c in session.cells] == [("erythroblast", b"better")]
    assert [(c.name, c.crop) for c in begin(store).cells] == [("erythroblast", b"better")]


def test_a_cell_decided_again_is_stored_though_its_frame_brought_nothing_else(store: Store) -> None:
    def begin_moving() -> Session:
        return Session(store, CARD, "S-1", "video", moving=True, review_below=0.5, target=None)

    session = begin_moving()
    for index in range(70):
        blurred = index < 40
        seen = detection(100, 100, sharpness=5.0 if blurred else 100.0)
        seen = replace(seen, probabilities=np.eye(3, dtype=np.float32)[0 if blurred else 1])
        shown = frame(index, 0, 100)
        session.take(Step(shown, (seen,), session.counter.update(shown, (seen,))))
    assert [cell.name for cell in session.cells] == ["erythroblast"]
    assert [cell.name for cell in begin_moving().cells] == ["erythroblast"]


def test_boxes_are_told_in_the_picture_of_the_source(store: Store) -> None:
    session = begin(store)
    first, second = (step(session, name, 0) for name in ("a.png", "b.png"))
    first, second = (replace(s, frame=replace(s.frame, corner=(7, 9))) for s in (first, second))
    session.take(first)
    assert session.cells[0].box == Box(8, 11, 8, 8)
    later = replace(first.tracked.cells[0], source="b.png")
    session.take(replace(second, tracked=replace(second.tracked, cells=(), revised=(later,))))
    assert (session.cells[0].source, session.cells[0].box) == ("b.png", Box(8, 11, 8, 8))
